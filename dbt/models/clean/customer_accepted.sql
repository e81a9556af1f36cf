{{ config(materialized='by_batch', after='customer_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('customer')), ref('customer_copies')) }}
