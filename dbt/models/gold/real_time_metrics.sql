{{ config(materialized='by_change', grain=['happened_minute', 'event_type'], upstream='click_log') }}

-- depends_on: {{ ref('click_log') }}
with

clicks as (
  select * from {{ ref('click') }}
),

touched as (
  select * from clicks
  where {{ is_touched('clicks') }}
),

final as (
  select
    happened_minute,
    event_type,
    count(*) as count_events,
    count(distinct customer_id) as count_customers,
    count(distinct session_id) as count_sessions,
    count(case when event_type = 'purchase' then 1 end) as count_purchases,
    cast(sum(case when event_type = 'purchase' then coalesce(amount, 0) else 0 end) as decimal(38, 4)) as revenue
  from touched
  group by happened_minute, event_type
)

select * from final
