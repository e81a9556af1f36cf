-- The segments as of the last day: how many customers, and what they brought.
select
  currency,
  segment,
  count(*) as count_customers,
  sum(net_revenue) as net_revenue
from {{ ref('customer_segments') }}
group by currency, segment
order by currency asc, net_revenue desc, segment asc
