{{ config(materialized='companion') }}

{{ scd2_changes('support_ticket', ref('support_ticket_log')) }}
