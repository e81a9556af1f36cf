{{ config(materialized='scd2') }}

select * from {{ ref('product_events') }}
