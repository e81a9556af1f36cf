{{ config(materialized='scd2') }}

select * from {{ ref('shop_order_events') }}
