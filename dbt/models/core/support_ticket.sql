{{ config(materialized='companion') }}

{{ scd2_current('support_ticket', ref('support_ticket_log')) }}
