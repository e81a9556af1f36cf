{{ config(
    materialized='by_change',
    grain=['sales_date', 'category_id', 'currency'],
    upstream=['fct_order_items', 'fct_pos_lines'],
    touched='touched_category_days',
) }}

with

sales as (
  select
    order_day as sales_date,
    category_id,
    currency,
    source,
    order_id,
    quantity as units,
    amount as revenue,
    0 as refunds
  from {{ ref('fct_order_items') }}
  where
    is_sale
    and order_day is not null

  union all

  select
    sales_date,
    category_id,
    currency,
    'pos:' || store_id as source,
    case when kind = 'sale' then transaction_id end as order_id,
    case when kind = 'sale' then quantity else 0 end as units,
    case when kind = 'sale' then amount else 0 end as revenue,
    case when kind = 'refund' then amount else 0 end as refunds
  from {{ ref('fct_pos_lines') }}
),

touched as (
  select * from sales
  where {{ is_touched('sales') }}
),

final as (
  select
    sales_date,
    category_id,
    currency,
    count(distinct source || '/' || order_id) as count_purchases,
    cast(sum(coalesce(units, 0)) as decimal(38, 4)) as units_sold,
    cast(sum(coalesce(revenue, 0)) as decimal(38, 4)) as gross_revenue,
    cast(sum(refunds) as decimal(38, 4)) as refunds,
    cast(sum(coalesce(revenue, 0) - refunds) as decimal(38, 4)) as net_revenue
  from touched
  group by sales_date, category_id, currency
)

select * from final
