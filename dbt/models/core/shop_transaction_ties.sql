{{ config(materialized='companion') }}

{{ scd2_all_ties('shop_transaction', ref('shop_transaction_log')) }}
