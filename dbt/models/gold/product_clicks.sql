select
  product_id,
  event_type,
  count(*) as count_events,
  max(happened_at) as last_click_at
from {{ ref('click') }}
where product_id is not null
group by product_id, event_type
