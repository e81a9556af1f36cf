{{ config(
    materialized='by_change',
    grain=['store_id', 'transaction_id', 'line'],
    upstream=['pos_line_log', 'customer_log', 'product_log', 'category_log'],
    touched='touched_lines',
    keep_together=['sales_date'],
    carries=['sales_date', 'currency', 'category_id', 'product_id', 'customer_id'],
    silent=['product_key', 'product_match', 'customer_key', 'customer_match'],
) }}

-- depends_on: {{ ref('pos_line_log') }}, {{ ref('customer_log') }}, {{ ref('product_log') }}, {{ ref('category_log') }}
with

lines as (
  select * from {{ ref('pos_line') }}
),

touched as (
  select * from lines
  where
    kind in ('sale', 'refund')
    and {{ is_touched('lines') }}
),

final as (
  select
    touched.store_id,
    touched.transaction_id,
    touched.line,
    touched.kind,
    touched.product_id,
    {{ version_key(['touched.product_id'], 'product_versions.valid_from') }} as product_key,
    {{ match_of('touched.product_id', 'touched.sold_at', 'product_versions') }} as product_match,
    touched.customer_id,
    {{ version_key(['touched.customer_id'], 'customer_versions.valid_from') }} as customer_key,
    {{ match_of('touched.customer_id', 'touched.sold_at', 'customer_versions') }} as customer_match,
    products.category_id,
    touched.sold_at,
    touched.sales_date,
    touched.currency,
    touched.payment_method,
    touched.quantity,
    touched.unit_price,
    touched.amount
  from touched
  left join ({{ version_at(ref('product_history'), 'product_id', 'touched', 'sold_at') }}) as product_versions
    on touched.product_id = product_versions.product_id
    and touched.sold_at = product_versions.sold_at
  left join {{ ref('dim_product') }} as products
    on product_versions.product_id = products.product_id
    and product_versions.valid_from = products.valid_from
  left join ({{ version_at(ref('customer_history'), 'customer_id', 'touched', 'sold_at') }}) as customer_versions
    on touched.customer_id = customer_versions.customer_id
    and touched.sold_at = customer_versions.sold_at
)

select * from final
