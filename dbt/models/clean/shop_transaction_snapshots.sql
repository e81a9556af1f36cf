{{ config(materialized='companion') }}

-- written by {{ ref('shop_transaction_absences') }}
select 'by the macro absence_judge' as verdict
