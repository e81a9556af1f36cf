{{ config(materialized='scd2') }}

select * from {{ ref('category_events') }}
