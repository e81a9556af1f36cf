{{ config(materialized='companion') }}

-- written by {{ ref('product_absences') }}
select 'by the macro absence_judge' as verdict
