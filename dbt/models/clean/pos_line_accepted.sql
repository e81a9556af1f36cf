{{ config(materialized='by_batch', after='pos_line_rows') }}

{{ accepted_rows(['store_id', 'transaction_id', 'line', 'content'], ref('pos_line_copies')) }}
