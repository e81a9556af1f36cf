{{ config(materialized='companion') }}

{{ scd2_all_ties('order_item', ref('order_item_log')) }}
