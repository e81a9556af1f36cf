{{ config(materialized='by_batch', after='product_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('product')), ref('product_copies')) }}
