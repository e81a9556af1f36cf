{{ config(materialized='scd2') }}

select * from {{ ref('order_item_events') }}
