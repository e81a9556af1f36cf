{{ config(materialized='scd2') }}

select * from {{ ref('customer_events') }}
