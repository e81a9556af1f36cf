{{ config(materialized='by_change', grain=['sales_date', 'store_id', 'currency'], upstream='pos_line_log') }}

-- depends_on: {{ ref('pos_line_log') }}
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
    sales_date,
    store_id,
    currency,
    count(distinct case when kind = 'sale' then transaction_id end) as count_transactions,
    count(case when kind = 'sale' then 1 end) as count_lines,
    cast(sum(case when kind = 'sale' then quantity else 0 end) as decimal(38, 4)) as units_sold,
    cast(sum(case when kind = 'sale' then amount else 0 end) as decimal(38, 4)) as gross_revenue,
    cast(sum(case when kind = 'refund' then amount else 0 end) as decimal(38, 4)) as refunds,
    cast(sum(case kind when 'sale' then amount else -amount end) as decimal(38, 4)) as net_revenue
  from touched
  group by sales_date, store_id, currency
)

select * from final
