{{ config(materialized='absences', entity='support_ticket') }}

{{ absence_rows('support_ticket', ref('support_ticket_rows'), ref('superseded_objects')) }}
