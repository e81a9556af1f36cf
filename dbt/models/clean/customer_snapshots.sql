{{ config(materialized='companion') }}

-- written by {{ ref('customer_absences') }}
select 'by the macro absence_judge' as verdict
