{{ config(materialized='scd2') }}

select * from {{ ref('support_ticket_events') }}
