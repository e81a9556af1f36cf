{{ config(materialized='by_batch') }}

{{ accepted_rows(scd2_identity(c360.entity('shop_order')), ref('shop_order_copies')) }}
