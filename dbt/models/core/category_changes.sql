{{ config(materialized='companion') }}

{{ scd2_changes('category', ref('category_log')) }}
