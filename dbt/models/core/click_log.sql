{{ config(materialized='latest', upstream='click_rows') }}

-- depends_on: {{ ref('click_rows') }}
select * from {{ ref('click_copies') }}
