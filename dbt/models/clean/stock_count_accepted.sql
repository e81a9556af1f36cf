{{ config(materialized='by_batch') }}

{{ accepted_rows(scd2_identity(c360.entity('stock_count')), ref('stock_count_copies')) }}
