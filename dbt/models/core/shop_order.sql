{{ config(materialized='companion') }}

{{ scd2_current('shop_order', ref('shop_order_log')) }}
