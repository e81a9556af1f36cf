{{ config(materialized='by_batch', of=['product', 'order_item', 'shop_transaction']) }}

{{ hub('product_hk', ['product_id'], [
  {'events': ref('product_events'), 'key': {'product_id': 'product_id'}},
  {'events': ref('order_item_events'), 'key': {'product_id': 'product_id'}},
  {'events': ref('shop_transaction_events'), 'key': {'product_id': 'product_id'}},
]) }}
