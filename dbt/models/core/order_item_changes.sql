{{ config(materialized='companion') }}

{{ scd2_changes('order_item', ref('order_item_log')) }}
