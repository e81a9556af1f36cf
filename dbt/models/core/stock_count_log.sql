{{ config(materialized='scd2') }}

select * from {{ ref('stock_count_events') }}
