-- Customers by how often they bought, and what each group brought.
with

grouped as (
  select
    currency,
    case when count_purchases >= 5 then '5 and more' else cast(count_purchases as varchar) end as purchases,
    net_revenue
  from {{ ref('customer_sales') }}
  where count_purchases > 0
)

select
  currency,
  purchases,
  count(*) as count_customers,
  sum(net_revenue) as net_revenue
from grouped
group by currency, purchases
order by currency, purchases
