{{ config(materialized='companion') }}

-- written by {{ ref('category_absences') }}
select 'by the macro absence_judge' as verdict
