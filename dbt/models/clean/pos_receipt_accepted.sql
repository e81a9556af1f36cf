{{ config(materialized='by_batch', after='pos_receipts') }}

{{ accepted_rows(['record'], ref('pos_receipt_copies'), telling='record') }}
