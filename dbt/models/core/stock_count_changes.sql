{{ config(materialized='companion') }}

{{ scd2_changes('stock_count', ref('stock_count_log')) }}
