{{ config(materialized='companion') }}

{{ scd2_all_ties('customer', ref('customer_log')) }}
