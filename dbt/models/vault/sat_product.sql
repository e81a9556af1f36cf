{{ config(materialized='by_batch', of=['product']) }}

{{ satellite('product_hk', [
  {'entity': 'product', 'events': ref('product_events'), 'key': {'product_id': 'product_id'}, 'columns': 'all'},
]) }}
