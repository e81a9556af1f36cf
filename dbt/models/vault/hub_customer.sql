{{ config(materialized='by_batch', of=['customer', 'shop_order', 'shop_transaction']) }}

{{ hub('customer_hk', ['customer_id'], [
  {'events': ref('customer_events'), 'key': {'customer_id': 'customer_id'}},
  {'events': ref('shop_order_events'), 'key': {'customer_id': 'customer_id'}},
  {'events': ref('shop_transaction_events'), 'key': {'customer_id': 'customer_id'}},
]) }}
