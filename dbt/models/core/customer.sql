{{ config(materialized='scd2_companion') }}

{{ scd2_current('customer', ref('customer_log')) }}
