{{ config(materialized='by_change', grain=['visitor'], upstream='click_log', touched='touched_visitors') }}

{%- set silence = var('session_silence_minutes') %}
{%- set of_visit, before = 'partition by visitor, visit order by ', 'rows unbounded preceding' %}

-- depends_on: {{ ref('click_log') }}
with

clicks as (
  select * from {{ ref('click') }}
),

touched as (
  select * from clicks
  where
    visitor is not null
    and {{ is_touched('clicks') }}
),

followed as (
  select
    *,
    lag(happened_at) over (partition by visitor order by happened_at, event_id) as before
  from touched
),

-- A visit ends with silence.
told_apart as (
  select
    *,
    case
      when before > {{ minutes_earlier('happened_at', silence) }} then 0
      else 1
    end as begins_visit
  from followed
),

visits as (
  select
    *,
    sum(begins_visit) over (partition by visitor order by happened_at, event_id rows unbounded preceding) as visit
  from told_apart
),

-- Who logs in during a visit was there before, until somebody else logs in.
named as (
  select
    *,
    coalesce(
      {{ last_given('customer_id', of_visit ~ 'happened_at asc, event_id asc ' ~ before) }},
      {{ last_given('customer_id', of_visit ~ 'happened_at desc nulls last, event_id desc nulls last ' ~ before) }}
    ) as named_in_visit,
    min(customer_id) over (partition by visitor) as first_of_visitor,
    max(customer_id) over (partition by visitor) as last_of_visitor
  from visits
),

-- A visit without a login is whose the others are, if they are all one customer's.
joined as (
  select
    *,
    coalesce(named_in_visit, case when first_of_visitor = last_of_visitor then first_of_visitor end) as person
  from named
),

begun as (
  select
    *,
    case
      when begins_visit = 1 then 1
      when person = lag(person) over (partition by visitor order by happened_at, event_id) then 0
      -- Within a visit either all have a name or none has.
      when person is null then 0
      else 1
    end as begins_session
  from joined
),

numbered as (
  select
    *,
    sum(begins_session) over (partition by visitor order by happened_at, event_id rows unbounded preceding)
      as session_number
  from begun
),

placed as (
  select
    *,
    row_number() over (partition by visitor, session_number order by happened_at, event_id) as place
  from numbered
),

final as (
  select
    visitor,
    cast(session_number as integer) as session_number,
    max(person) as customer_id,
    case
      when max(person) is null then 'nobody'
      when max(customer_id) is null then 'other visits'
      when max(case when place = 1 then customer_id end) is null then 'later login'
      else 'stated'
    end as known_by,
    min(happened_at) as started_at,
    max(happened_at) as ended_at,
    count(*) as count_events,
    count(case when event_type = 'page_view' then 1 end) as count_page_views,
    count(case when event_type = 'click' then 1 end) as count_clicks,
    count(case when event_type = 'add_to_cart' then 1 end) as count_carts,
    count(case when event_type = 'purchase' then 1 end) as count_purchases,
    cast(sum(case when event_type = 'purchase' then coalesce(amount, 0) else 0 end) as decimal(38, 4)) as revenue,
    max(case when place = 1 then page_url end) as landing_page,
    max(case when place = 1 then device_type end) as device_type
  from placed
  group by visitor, session_number
)

select * from final
