{{ config(
    materialized='by_batch',
    unique_key=['_feed', '_key', '_etag', '_row', '_loaded_batch'],
) }}

{{ entity_rows('order_item') }}
