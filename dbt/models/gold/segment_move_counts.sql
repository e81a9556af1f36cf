select
  currency,
  coalesce(segment_before, 'none') as segment_before,
  coalesce(segment, 'none') as segment,
  count(*) as count_customers
from {{ ref('segment_moves') }}
group by currency, coalesce(segment_before, 'none'), coalesce(segment, 'none')
