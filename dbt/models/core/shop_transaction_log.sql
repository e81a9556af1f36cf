{{ config(materialized='scd2') }}

select * from {{ ref('shop_transaction_events') }}
