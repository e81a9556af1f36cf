{{ config(
    materialized='by_batch',
    unique_key=['_feed', '_key', '_etag', '_row', '_loaded_batch'],
    record=['_feed', '_key', '_etag', '_row', '_loaded_batch'],
    final="reasons = '[]'",
) }}

{{ click_rows('click') }}
