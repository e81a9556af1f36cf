{{ config(materialized='scd2') }}

select * from {{ ref('NAME_events') }}
