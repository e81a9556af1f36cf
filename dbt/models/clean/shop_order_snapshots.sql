{{ config(materialized='companion') }}

-- written by {{ ref('shop_order_absences') }}
select 'by the macro absence_judge' as verdict
