{{ config(materialized='by_batch', after='shop_transaction_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('shop_transaction')), ref('shop_transaction_copies')) }}
