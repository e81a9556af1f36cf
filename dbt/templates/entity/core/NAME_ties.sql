{{ config(materialized='companion') }}

{{ scd2_all_ties('NAME', ref('NAME_log')) }}
