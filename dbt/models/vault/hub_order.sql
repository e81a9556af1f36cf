{{ config(materialized='by_batch', of=['shop_order', 'order_item', 'shop_transaction']) }}

{{ hub('order_hk', ['source', 'order_id'], [
  {'events': ref('shop_order_events'), 'key': {'source': "'orders'", 'order_id': 'order_id'}},
  {'events': ref('order_item_events'), 'key': {'source': "'orders'", 'order_id': 'order_id'}},
  {'events': ref('shop_transaction_events'), 'key': {'source': "'transactions'", 'order_id': 'transaction_id'}},
]) }}
