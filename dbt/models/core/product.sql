{{ config(materialized='companion') }}

{{ scd2_current('product', ref('product_log')) }}
