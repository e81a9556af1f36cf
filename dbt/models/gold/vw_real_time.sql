-- The last day, as of the newest event: what is read of it again and again stays small. What a wrong clock dates ahead of all
-- that has come is not in it.
with

happened as (
  select * from {{ ref('real_time_metrics') }}
  where happened_minute <= {{ newest_known(['click_log']) }}
)

select
  happened_minute,
  event_type,
  count_events,
  count_customers,
  count_sessions,
  count_purchases,
  revenue
from happened
where happened_minute > (select {{ minutes_earlier('max(happened_minute)', 1440) }} from happened)
