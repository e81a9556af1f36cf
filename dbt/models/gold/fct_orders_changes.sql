{{ config(materialized='companion') }}

-- written by {{ ref('fct_orders') }}
select 'what a run took away and brought' as batch
