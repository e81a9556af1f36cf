{{ config(materialized='companion') }}

-- written by {{ ref('order_item_absences') }}
select 'by the macro absence_judge' as verdict
