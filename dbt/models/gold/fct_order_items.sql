{{ config(
    materialized='by_change',
    grain=['source', 'order_item_id'],
    upstream=['order_item_log', 'shop_order_log', 'shop_transaction_log', 'customer_log', 'product_log', 'category_log'],
    touched='touched_order_items',
    keep_together=['order_day'],
    carries=['order_id', 'order_day', 'currency', 'category_id', 'product_id', 'customer_id'],
    silent=['product_key', 'product_match', 'customer_key', 'customer_match', 'unit_cost'],
    meta={'waits_for': ['accounting']},
) }}

-- depends_on: {{ ref('order_item_log') }}, {{ ref('shop_order_log') }}, {{ ref('shop_transaction_log') }}
-- depends_on: {{ ref('customer_log') }}, {{ ref('product_log') }}, {{ ref('category_log') }}
-- Facts wait for the accounting to add up: depends_on: {{ ref('accounting') }}
with

items as (
  {{ items_ordered() }}
),

touched as (
  select * from items
  where {{ is_touched('items') }}
),

ordered as (
  {{ orders_placed() }}
),

placed as (
  select
    touched.*,
    ordered.customer_id,
    ordered.ordered_at,
    ordered.currency,
    ordered.is_sale
  from touched
  left join ordered
    on touched.source = ordered.source
    and touched.order_id = ordered.order_id
),

final as (
  select
    placed.source,
    placed.order_item_id,
    placed.order_id,
    placed.product_id,
    {{ version_key(['placed.product_id'], 'product_versions.valid_from') }} as product_key,
    {{ match_of('placed.product_id', 'placed.ordered_at', 'product_versions') }} as product_match,
    placed.customer_id,
    {{ version_key(['placed.customer_id'], 'customer_versions.valid_from') }} as customer_key,
    {{ match_of('placed.customer_id', 'placed.ordered_at', 'customer_versions') }} as customer_match,
    products.category_id,
    placed.ordered_at,
    cast(placed.ordered_at as date) as order_day,
    placed.currency,
    placed.is_sale,
    placed.quantity,
    placed.unit_price,
    {{ amount_of_item() }} as amount,
    -- What it cost in another currency says nothing of what the sale brought.
    case when coalesce(products.currency, '{{ var('shop_currency') }}') = placed.currency then products.cost end as unit_cost
  from placed
  left join ({{ version_at(ref('product_history'), 'product_id', 'placed', 'ordered_at') }}) as product_versions
    on placed.product_id = product_versions.product_id
    and placed.ordered_at = product_versions.ordered_at
  left join {{ ref('dim_product') }} as products
    on product_versions.product_id = products.product_id
    and product_versions.valid_from = products.valid_from
  left join ({{ version_at(ref('customer_history'), 'customer_id', 'placed', 'ordered_at') }}) as customer_versions
    on placed.customer_id = customer_versions.customer_id
    and placed.ordered_at = customer_versions.ordered_at
)

select * from final
