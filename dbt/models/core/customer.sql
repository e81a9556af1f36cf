{{ config(materialized='companion') }}

{{ scd2_current('customer', ref('customer_log')) }}
