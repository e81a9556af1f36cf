{{ config(
    materialized='by_change',
    grain=['customer_id', 'currency'],
    upstream=['fct_orders', 'fct_pos_lines'],
) }}

-- depends_on: {{ ref('fct_orders') }}, {{ ref('fct_pos_lines') }}
with

purchases as (
  {{ purchases() }}
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
