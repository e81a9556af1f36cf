{{ config(materialized='companion') }}

{{ scd2_current('category', ref('category_log')) }}
