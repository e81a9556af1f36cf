{{ config(materialized='by_batch') }}

{{ accepted_rows(scd2_identity(c360.entity('order_item')), ref('order_item_copies')) }}
