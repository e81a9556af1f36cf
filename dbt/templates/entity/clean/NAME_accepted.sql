{{ config(materialized='by_batch', after='NAME_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('NAME')), ref('NAME_copies')) }}
