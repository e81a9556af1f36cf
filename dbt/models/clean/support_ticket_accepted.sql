{{ config(materialized='by_batch') }}

{{ accepted_rows(scd2_identity(c360.entity('support_ticket')), ref('support_ticket_copies')) }}
