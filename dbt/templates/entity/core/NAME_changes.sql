{{ config(materialized='companion') }}

{{ scd2_changes('NAME', ref('NAME_log')) }}
