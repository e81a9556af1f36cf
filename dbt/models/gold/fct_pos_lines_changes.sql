{{ config(materialized='companion') }}

-- written by {{ ref('fct_pos_lines') }}
select 'what a run took away and brought' as batch
