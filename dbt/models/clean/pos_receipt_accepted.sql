{{ config(materialized='by_batch') }}

{{ accepted_rows(['record'], ref('pos_receipt_copies')) }}
