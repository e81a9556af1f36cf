{{ config(materialized='companion') }}

{{ scd2_all_ties('shop_order', ref('shop_order_log')) }}
