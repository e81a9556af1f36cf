{{ config(materialized='by_batch') }}

{{ accepted_rows('customer', ref('customer_events')) }}
