{{ config(materialized='by_batch', after='stock_count_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('stock_count')), ref('stock_count_copies')) }}
