{{ config(materialized='companion') }}

-- written by {{ ref('support_ticket_absences') }}
select 'by the macro absence_judge' as verdict
