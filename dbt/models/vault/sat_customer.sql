{{ config(materialized='by_batch', of=['customer']) }}

{{ satellite('customer_hk', [
  {'entity': 'customer', 'events': ref('customer_events'), 'key': {'customer_id': 'customer_id'}, 'columns': 'all'},
]) }}
