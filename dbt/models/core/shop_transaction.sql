{{ config(materialized='companion') }}

{{ scd2_current('shop_transaction', ref('shop_transaction_log')) }}
