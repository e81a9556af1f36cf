{{ config(materialized='by_batch', after='support_ticket_rows') }}

{{ accepted_rows(scd2_identity(c360.entity('support_ticket')), ref('support_ticket_copies')) }}
