{{ config(materialized='companion') }}

{{ scd2_all_ties('support_ticket', ref('support_ticket_log')) }}
