{{ config(materialized='by_batch') }}

{{ accepted_rows(scd2_identity(c360.entity('shop_transaction')), ref('shop_transaction_copies')) }}
