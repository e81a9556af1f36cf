{{ config(materialized='companion') }}

{{ scd2_all_ties('product', ref('product_log')) }}
