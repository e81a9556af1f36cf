{{ config(materialized='companion') }}

{{ scd2_changes('shop_order', ref('shop_order_log')) }}
