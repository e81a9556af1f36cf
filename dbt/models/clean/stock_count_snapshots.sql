{{ config(materialized='companion') }}

-- written by {{ ref('stock_count_absences') }}
select 'by the macro absence_judge' as verdict
