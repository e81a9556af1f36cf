{{ config(materialized='by_batch', after='category_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('category')), ref('category_copies')) }}
