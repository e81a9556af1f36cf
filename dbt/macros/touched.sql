{#-
  Which rows of a table have to be made anew when something it is made of changed: for each table that cannot read it off
  its upstream's changes, the query for its grain. Called while the table is refreshed; `new_of` is what is new by then.
-#}

{#-
  Stock: of every line and count that came or went. A refund of a whole receipt gives back what the receipt sold, so that
  all its products are touched by any line of it, and by the refund.
-#}
{% macro touched_stock() %}
  {%- set lines = relation_of('pos_line_log') %}
  with changed as (
    {{ changed_rows('pos_line_log') }}
  ),

  receipts as (
    select distinct store_id, coalesce(refund_of, transaction_id) as transaction_id
    from changed
  )

  select store_id, product_id from changed
  where product_id is not null

  union all

  select lines.store_id, lines.product_id
  from {{ lines }} as lines
  inner join receipts on lines.store_id = receipts.store_id and lines.transaction_id = receipts.transaction_id
  where lines.product_id is not null

  union all

  select store_id, product_id from ({{ changed_rows('stock_count_log') }}) as counts
{% endmacro %}

{#- Items of orders: those that changed themselves, and those of an order, customer or product of which something did. -#}
{% macro touched_order_items() %}
  {%- set orders, items, transactions = relation_of('shop_order'), relation_of('order_item'), relation_of('shop_transaction') %}
  with customers as (
    select distinct customer_id from ({{ changed_rows('customer_log') }}) as changed
  ),

  products as (
    {{ products_changed() }}
  ),

  orders_changed as (
    select order_id from ({{ changed_rows('shop_order_log') }}) as changed
    union
    select orders.order_id
    from {{ orders }} as orders
    inner join customers on orders.customer_id = customers.customer_id
  )

  select 'orders' as source, order_item_id from ({{ changed_rows('order_item_log') }}) as changed
  union all
  select 'orders' as source, items.order_item_id
  from {{ items }} as items
  inner join orders_changed on items.order_id = orders_changed.order_id
  union all
  select 'orders' as source, items.order_item_id
  from {{ items }} as items
  inner join products on items.product_id = products.product_id
  union all
  select 'transactions' as source, transaction_id as order_item_id from ({{ changed_rows('shop_transaction_log') }}) as changed
  union all
  select 'transactions' as source, transactions.transaction_id as order_item_id
  from {{ transactions }} as transactions
  inner join customers on transactions.customer_id = customers.customer_id
  union all
  select 'transactions' as source, transactions.transaction_id as order_item_id
  from {{ transactions }} as transactions
  inner join products on transactions.product_id = products.product_id
{% endmacro %}

{#- Orders and transactions: those that changed themselves, those of which an item did, and those of a customer whose history changed. -#}
{% macro touched_orders() %}
  with customers as (
    select distinct customer_id from ({{ changed_rows('customer_log') }}) as changed
  )

  select source, order_id from ({{ changed_rows('fct_order_items') }}) as changed
  union all
  select 'orders' as source, order_id from ({{ changed_rows('shop_order_log') }}) as changed
  union all
  select 'orders' as source, orders.order_id
  from {{ relation_of('shop_order') }} as orders
  inner join customers on orders.customer_id = customers.customer_id
  union all
  select 'transactions' as source, transaction_id as order_id from ({{ changed_rows('shop_transaction_log') }}) as changed
  union all
  select 'transactions' as source, transactions.transaction_id as order_id
  from {{ relation_of('shop_transaction') }} as transactions
  inner join customers on transactions.customer_id = customers.customer_id
{% endmacro %}

{#- Lines of the tills: those that changed themselves, those of a customer or product whose versions did. -#}
{% macro touched_lines() %}
  {%- set lines = relation_of('pos_line') %}
  with customers as (
    select distinct customer_id from ({{ changed_rows('customer_log') }}) as changed
  ),

  products as (
    {{ products_changed() }}
  )

  select store_id, transaction_id, line from ({{ changed_rows('pos_line_log') }}) as changed
  union all
  select lines.store_id, lines.transaction_id, lines.line
  from {{ lines }} as lines
  inner join customers on lines.customer_id = customers.customer_id
  union all
  select lines.store_id, lines.transaction_id, lines.line
  from {{ lines }} as lines
  inner join products on lines.product_id = products.product_id
{% endmacro %}

{#-
  Products whose versions changed; where any category did, also those that name theirs by its name alone: which name was whose
  before is not asked, because a category that was taken back is not there to be asked.
-#}
{% macro products_changed() %}
  select product_id from ({{ changed_rows('product_log') }}) as changed

  union

  select product_id from {{ relation_of('product_history') }}
  where {{ first_listed('category_id') }} is null
    and category is not null
    and exists (select 1 from ({{ changed_rows('category_log') }}) as changed)
{% endmacro %}

{#- Days of categories: the two facts name their days in their own words. -#}
{% macro touched_category_days() %}
  select order_day as sales_date, category_id, currency from ({{ changed_rows('fct_order_items') }}) as items
  where order_day is not null
  union all
  select sales_date, category_id, currency from ({{ changed_rows('fct_pos_lines') }}) as lines
{% endmacro %}
