{{ config(materialized='companion') }}

{{ scd2_changes('product', ref('product_log')) }}
