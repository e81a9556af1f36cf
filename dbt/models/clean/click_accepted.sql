{{ config(materialized='by_batch', after='click_rows') }}

{{ accepted_rows(['event_id', 'content'], ref('click_copies'), telling='event_id') }}
