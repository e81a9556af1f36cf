{{ config(materialized='companion') }}

-- written by {{ ref('fct_order_items') }}
select 'what a run took away and brought' as batch
