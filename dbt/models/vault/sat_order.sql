{{ config(materialized='by_batch', of=['shop_order', 'shop_transaction']) }}

{{ satellite('order_hk', [
  {'entity': 'shop_order', 'events': ref('shop_order_events'), 'key': {'source': "'orders'", 'order_id': 'order_id'}, 'columns': {
    'order_date': 'order_date', 'order_status': 'order_status', 'payment_method': 'payment_method', 'currency': 'currency', 'order_amount': 'order_amount'}},
  {'entity': 'shop_transaction', 'events': ref('shop_transaction_events'), 'key': {'source': "'transactions'", 'order_id': 'transaction_id'}, 'columns': {
    'order_date': 'order_date', 'order_status': 'order_status', 'payment_method': 'payment_method', 'currency': 'currency', 'order_amount': 'total_amount'}},
]) }}
