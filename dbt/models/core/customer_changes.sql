{{ config(materialized='companion') }}

{{ scd2_changes('customer', ref('customer_log')) }}
