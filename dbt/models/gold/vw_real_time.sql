-- The last day, as of the newest event: what is read of it again and again stays small. What a wrong clock dates ahead
-- of all that has come is not in it.
with

happened as (
  select * from {{ ref('real_time_metrics') }}
  where happened_minute <= {{ newest_known(['click_log']) }}
),

newest as (
  select max(happened_minute) as happened_minute from happened
)

select
  happened.happened_minute,
  happened.event_type,
  happened.count_events,
  happened.count_customers,
  happened.count_sessions,
  happened.count_purchases,
  happened.revenue
from happened
inner join newest on happened.happened_minute > {{ minutes_earlier('newest.happened_minute', 1440) }}
