{{ config(materialized='companion') }}

-- written by {{ ref('NAME_absences') }}
select 'by the macro absence_judge' as verdict
