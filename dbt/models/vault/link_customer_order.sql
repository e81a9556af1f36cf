{{ config(materialized='by_batch', of=['shop_order', 'shop_transaction']) }}

{{ link('customer_order_hk', {'customer_hk': ['customer_id'], 'order_hk': ['source', 'order_id']}, [], [
  {'events': ref('shop_order_events'), 'key': {'customer_id': 'customer_id', 'source': "'orders'", 'order_id': 'order_id'}},
  {'events': ref('shop_transaction_events'), 'key': {'customer_id': 'customer_id', 'source': "'transactions'", 'order_id': 'transaction_id'}},
]) }}
