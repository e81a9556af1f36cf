{{ config(materialized='companion') }}

{{ scd2_changes('shop_transaction', ref('shop_transaction_log')) }}
