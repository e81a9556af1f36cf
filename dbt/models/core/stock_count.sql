{{ config(materialized='companion') }}

{{ scd2_current('stock_count', ref('stock_count_log')) }}
