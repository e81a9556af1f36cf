{{ config(materialized='companion') }}

{{ scd2_all_ties('stock_count', ref('stock_count_log')) }}
