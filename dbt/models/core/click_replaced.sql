{{ config(materialized='companion') }}

-- written by {{ ref('click_log') }}
{{ latest_replaced('click', ref('click_copies')) }}
