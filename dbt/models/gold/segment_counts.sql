select
  as_of_day,
  currency,
  segment,
  count(*) as count_customers,
  cast(sum(count_purchases) as bigint) as count_purchases,
  cast(sum(net_revenue) as decimal(38, 4)) as net_revenue
from {{ ref('customer_segments') }}
group by as_of_day, currency, segment
