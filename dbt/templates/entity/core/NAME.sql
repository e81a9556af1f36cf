{{ config(materialized='companion') }}

{{ scd2_current('NAME', ref('NAME_log')) }}
