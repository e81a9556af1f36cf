{{ config(
    materialized='by_batch',
    unique_key=['_feed', '_key', '_etag', '_row', '_loaded_batch', 'line'],
    record=['_feed', '_key', '_etag', '_row', '_loaded_batch'],
    final="reasons = '[]'",
) }}

{{ till_lines('pos_line') }}
