{{ config(materialized='scd2_companion') }}

{{ scd2_all_ties('customer', ref('customer_log')) }}
