{{ config(materialized='by_batch') }}

{{ accepted_rows(['store_id', 'transaction_id', 'line', 'content'], ref('pos_line_copies')) }}
