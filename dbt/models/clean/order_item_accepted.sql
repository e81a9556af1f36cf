{{ config(materialized='by_batch', after='order_item_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('order_item')), ref('order_item_copies')) }}
