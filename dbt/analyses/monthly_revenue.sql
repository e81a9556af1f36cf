-- Revenue by month and currency, and what it is compared with the month before.
with

months as (
  select
    date_trunc('month', sales_date) as sales_month,
    currency,
    sum(net_revenue) as net_revenue,
    sum(count_purchases) as count_purchases
  from {{ ref('product_category_sales') }}
  group by date_trunc('month', sales_date), currency
)

select
  cast(sales_month as date) as sales_month,
  currency,
  net_revenue,
  count_purchases,
  round(
    100 * (
      cast(net_revenue as double) / nullif(lag(net_revenue) over (partition by currency order by sales_month), 0) - 1
    ), 1
  ) as change_percent
from months
order by sales_month, currency
