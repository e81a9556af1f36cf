select
  customer_id,
  count(*) as count_sessions,
  sum(count_page_views) as count_page_views,
  sum(count_carts) as count_carts,
  sum(count_purchases) as count_click_purchases,
  max(ended_at) as last_click_at
from {{ ref('click_session') }}
where customer_id is not null
group by customer_id
