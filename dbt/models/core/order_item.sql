{{ config(materialized='companion') }}

{{ scd2_current('order_item', ref('order_item_log')) }}
