{{ config(materialized='by_batch', of=['order_item', 'shop_transaction']) }}

{{ link('order_product_hk', {'order_hk': ['source', 'order_id'], 'product_hk': ['product_id']}, ['line_id'], [
  {'events': ref('order_item_events'), 'key': {'source': "'orders'", 'order_id': 'order_id', 'product_id': 'product_id', 'line_id': 'order_item_id'}},
  {'events': ref('shop_transaction_events'), 'key': {'source': "'transactions'", 'order_id': 'transaction_id', 'product_id': 'product_id', 'line_id': 'transaction_id'}},
]) }}
