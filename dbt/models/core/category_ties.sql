{{ config(materialized='companion') }}

{{ scd2_all_ties('category', ref('category_log')) }}
