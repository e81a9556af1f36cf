{{ config(materialized='by_batch', after='shop_order_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('shop_order')), ref('shop_order_copies')) }}
