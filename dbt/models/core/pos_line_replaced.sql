{{ config(materialized='companion') }}

-- written by {{ ref('pos_line_log') }}
{{ latest_replaced('pos_line', ref('pos_line_copies')) }}
