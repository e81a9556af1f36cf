{{ config(materialized='by_batch', of=['shop_order', 'shop_transaction']) }}

{%- set order_of_shop = {'source': "'orders'", 'order_id': 'order_id'} %}
{%- set transaction = {'source': "'transactions'", 'order_id': 'transaction_id'} %}

{{ satellite('order_hk', [
  {'entity': 'shop_order', 'events': ref('shop_order_events'), 'key': order_of_shop, 'columns': {
    'customer_order_hk': link_key(order_of_shop, {'customer_id': 'customer_id'})}},
  {'entity': 'shop_transaction', 'events': ref('shop_transaction_events'), 'key': transaction, 'columns': {
    'customer_order_hk': link_key(transaction, {'customer_id': 'customer_id'})}},
]) }}
