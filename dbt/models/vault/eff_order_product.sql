{{ config(materialized='by_batch', of=['order_item', 'shop_transaction']) }}

{%- set item = {'source': "'orders'", 'line_id': 'order_item_id'} %}
{%- set transaction = {'source': "'transactions'", 'line_id': 'transaction_id'} %}

{{ satellite('line_hk', [
  {'entity': 'order_item', 'events': ref('order_item_events'), 'key': item, 'columns': {
    'order_product_hk': link_key(item, {'order_id': 'order_id', 'product_id': 'product_id'}),
    'quantity': 'quantity', 'unit_price': 'price'}},
  {'entity': 'shop_transaction', 'events': ref('shop_transaction_events'), 'key': transaction, 'columns': {
    'order_product_hk': link_key(transaction, {'order_id': 'transaction_id', 'product_id': 'product_id'}),
    'quantity': 'quantity', 'unit_price': 'unit_price'}},
]) }}
