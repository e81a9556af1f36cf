-- What each store gave back, and which share of what it took.
select
  store_id,
  currency,
  sum(gross_revenue) as gross_revenue,
  sum(refunds) as refunds,
  round(100 * cast(sum(refunds) as double) / nullif(sum(gross_revenue), 0), 1) as refunded_percent
from {{ ref('daily_sales_summary') }}
group by store_id, currency
order by store_id, currency
