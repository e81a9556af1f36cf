{{ config(
    materialized='by_change',
    grain=['source', 'order_id'],
    upstream=['shop_order_log', 'shop_transaction_log', 'customer_log', 'fct_order_items'],
    touched='touched_orders',
    keep_together=['order_day'],
    carries=['order_day', 'currency', 'customer_id'],
    silent=['customer_key', 'customer_match'],
    post_hook="{{ orders_function() }}",
) }}

-- depends_on: {{ ref('shop_order_log') }}, {{ ref('shop_transaction_log') }}, {{ ref('customer_log') }}
-- depends_on: {{ ref('shop_order_history') }}, {{ ref('order_item_history') }}, {{ ref('shop_transaction_history') }}
with

orders as (
  {{ orders_placed() }}
),

touched as (
  select * from orders
  where {{ is_touched('orders') }}
),

item_rows as (
  select * from {{ ref('fct_order_items') }}
),

items as (
  select
    source,
    order_id,
    count(*) as count_items,
    sum(quantity) as units,
    sum(amount) as items_amount
  from item_rows
  where {{ is_touched('item_rows') }}
  group by source, order_id
),

final as (
  select
    touched.source,
    touched.order_id,
    touched.customer_id,
    {{ version_key(['touched.customer_id'], 'customer_versions.valid_from') }} as customer_key,
    {{ match_of('touched.customer_id', 'touched.ordered_at', 'customer_versions') }} as customer_match,
    touched.ordered_at,
    cast(touched.ordered_at as date) as order_day,
    touched.order_status,
    touched.is_sale,
    touched.payment_method,
    touched.currency,
    touched.order_amount,
    cast(items.items_amount as decimal(38, 4)) as items_amount,
    {{ total_of_order('touched', 'items') }} as amount,
    coalesce(items.count_items, 0) as count_items,
    cast(coalesce(items.units, 0) as decimal(38, 4)) as units
  from touched
  left join items
    on touched.source = items.source
    and touched.order_id = items.order_id
  left join ({{ version_at(ref('customer_history'), 'customer_id', 'touched', 'ordered_at') }}) as customer_versions
    on touched.customer_id = customer_versions.customer_id
    and touched.ordered_at = customer_versions.ordered_at
)

select * from final
