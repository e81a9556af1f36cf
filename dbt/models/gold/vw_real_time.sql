-- The last day, as of the newest event: what is read of it again and again stays small.
select
  happened_minute,
  event_type,
  count_events,
  count_customers,
  count_sessions,
  count_purchases,
  revenue
from {{ ref('real_time_metrics') }}
where happened_minute > (
  select {{ minutes_earlier('max(happened_minute)', 1440) }}
  from {{ ref('real_time_metrics') }}
)
