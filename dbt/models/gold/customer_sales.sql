{{ config(
    materialized='by_change',
    grain=['customer_id', 'currency'],
    upstream=['fct_orders', 'fct_pos_lines'],
) }}

with

purchases as (
  select
    customer_id,
    currency,
    ordered_at as bought_at,
    source || ':' || order_id as purchase,
    amount as revenue,
    0 as refunds
  from {{ ref('fct_orders') }}
  where
    is_sale
    and customer_id is not null

  union all

  select
    customer_id,
    currency,
    sold_at as bought_at,
    case when kind = 'sale' then 'pos:' || store_id || '/' || transaction_id end as purchase,
    case when kind = 'sale' then amount else 0 end as revenue,
    case when kind = 'refund' then amount else 0 end as refunds
  from {{ ref('fct_pos_lines') }}
  where customer_id is not null
),

touched as (
  select * from purchases
  where {{ is_touched('purchases') }}
),

final as (
  select
    customer_id,
    currency,
    count(distinct purchase) as count_purchases,
    cast(sum(coalesce(revenue, 0)) as decimal(38, 4)) as gross_revenue,
    cast(sum(refunds) as decimal(38, 4)) as refunds,
    cast(sum(coalesce(revenue, 0) - refunds) as decimal(38, 4)) as net_revenue,
    min(case when purchase is not null then bought_at end) as first_bought_at,
    max(case when purchase is not null then bought_at end) as last_bought_at
  from touched
  group by customer_id, currency
)

select * from final
