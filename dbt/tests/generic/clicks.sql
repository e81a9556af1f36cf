{#- What must hold of clicks and sessions. Each test returns the rows that break it. -#}

{#- Sums of the sessions against sums of the clicks. -#}
{% test sessions_hold_all_clicks(model, clicks) %}
with sessions as (
  select sum(count_events) as count_events, sum(count_purchases) as count_purchases, sum(revenue) as revenue
  from {{ model }}
),

clicks as (
  select
    count(*) as count_events,
    sum(case when event_type = 'purchase' then 1 else 0 end) as count_purchases,
    sum(case when event_type = 'purchase' then coalesce(amount, 0) else 0 end) as revenue
  from {{ clicks }}
  where visitor is not null
)

select sessions.*, clicks.count_events as count_clicks, clicks.revenue as revenue_of_clicks
from sessions
cross join clicks
where coalesce(sessions.count_events, 0) <> clicks.count_events
  or coalesce(sessions.count_purchases, 0) <> coalesce(clicks.count_purchases, 0)
  or coalesce(sessions.revenue, 0) <> coalesce(clicks.revenue, 0)
{% endtest %}

{% test sessions_are_apart(model) %}
with told as (
  select
    visitor, session_number, started_at,
    lag(ended_at) over (partition by visitor order by session_number) as ended_before,
    lag(session_number) over (partition by visitor order by session_number) as number_before
  from {{ model }}
)

select * from told
where ended_before > started_at or session_number <> coalesce(number_before, 0) + 1
{% endtest %}

{#- Sums of the minutes against sums of the clicks, per type of event. -#}
{% test minutes_equal_clicks(model, clicks) %}
with minutes as (
  select event_type, sum(count_events) as count_events, sum(count_purchases) as count_purchases, sum(revenue) as revenue
  from {{ model }}
  group by event_type
),

clicks as (
  select
    event_type,
    count(*) as count_events,
    sum(case when event_type = 'purchase' then 1 else 0 end) as count_purchases,
    sum(case when event_type = 'purchase' then coalesce(amount, 0) else 0 end) as revenue
  from {{ clicks }}
  group by event_type
)

{{ differences('minutes', 'clicks', ['event_type', 'count_events', 'count_purchases', 'revenue']) }}
{% endtest %}

{#- Products that clicks name and the catalogue does not: sources that number them in two ways, or a catalogue that is behind. -#}
{% test clicks_name_products(model, products) %}
select product_id, sum(count_events) as count_events
from {{ model }}
where product_id not in (select product_id from {{ products }})
group by product_id
{% endtest %}
