{#-
  Each day of a store is judged by the same weekdays of the eight weeks before it, of which at least four are there:
  by their median, and by how far they lie from it in the middle. So one odd day before moves neither much, and the day
  itself and what comes after it have no say. Up to `day`, or all there are that are over: one that goes on has sold little yet.
-#}
{% macro anomalies(day=none, known_at=none) %}
{%- set weeks, least_weeks = 8, 4 %}
  with

  sales as (
    select
      store_id,
      currency,
      sales_date,
      net_revenue
    from {{ sales_of_days(known_at) }} as sales_of_days
    where
      sales_date < {{ day_of_tills(known_at) }}
      {%- if day is not none %}
      and sales_date <= {{ day }}
      {%- endif %}
  ),

  series as (
    select
      store_id,
      currency,
      min(sales_date) as first_day
    from sales
    group by store_id, currency
  ),

  last_day as (
    select max(sales_date) as sales_date from sales
  ),

  -- A day without a line is a day without sales.
  days as (
    select
      series.store_id,
      series.currency,
      calendar.date_day as sales_date,
      calendar.iso_weekday,
      cast(coalesce(sales.net_revenue, 0) as decimal(38, 4)) as net_revenue
    from series
    cross join last_day
    inner join {{ ref('dim_date') }} as calendar
      on calendar.date_day between series.first_day and last_day.sales_date
    left join sales
      on series.store_id = sales.store_id
      and series.currency = sales.currency
      and calendar.date_day = sales.sales_date
  ),

  compared as (
    select
      judged.store_id,
      judged.currency,
      judged.sales_date,
      judged.net_revenue as actual,
      before.net_revenue
    from days as judged
    inner join days as before
      on judged.store_id = before.store_id
      and judged.currency = before.currency
      and judged.iso_weekday = before.iso_weekday
      and judged.sales_date > before.sales_date
      and judged.sales_date - {{ 7 * weeks }} <= before.sales_date
  ),

  expected as (
    select
      store_id,
      currency,
      sales_date,
      actual,
      count(*) as count_days_before,
      cast(median(net_revenue) as decimal(38, 4)) as expected
    from compared
    group by store_id, currency, sales_date, actual
    having count(*) >= {{ least_weeks }}
  ),

  spread as (
    select
      expected.store_id,
      expected.currency,
      expected.sales_date,
      median(abs(cast(compared.net_revenue - expected.expected as double))) as deviation
    from expected
    inner join compared
      on expected.store_id = compared.store_id
      and expected.currency = compared.currency
      and expected.sales_date = compared.sales_date
    group by expected.store_id, expected.currency, expected.sales_date
  ),

  scored as (
    select
      expected.sales_date,
      expected.store_id,
      expected.currency,
      expected.actual,
      expected.expected,
      expected.count_days_before,
      -- 1.4826 deviations are one standard deviation where days are normal. Where they hardly differ, a twentieth counts.
      round(
        cast(expected.actual - expected.expected as double)
        / greatest(1.4826 * spread.deviation, abs(cast(expected.expected as double)) / 20, 0.01), 2
      ) as score
    from expected
    inner join spread
      on expected.store_id = spread.store_id
      and expected.currency = spread.currency
      and expected.sales_date = spread.sales_date
  ),

  final as (
    select
      *,
      case when score > 0 then 'high' else 'low' end as direction
    from scored
    where abs(score) >= {{ var('anomaly_score') }}
  )

  select * from final
{% endmacro %}

{#-
  The day that it was when the newest object of the tills came, the newest by `known_at` if that is given, in that zone of theirs
  which is the furthest behind. So a day that a wrong clock tells is not over either.
-#}
{% macro day_of_tills(known_at=none) -%}
  {%- set known = newest_known(['pos_line_log'], known_at) -%}
  {%- set days = [] -%}
  {%- for feed in declared_feeds('pos_line') -%}
    {%- set zone = (feed.feed.get('event_time') or {}).get('zone', 'UTC') -%}
    {%- set local = 'cast(' ~ (known if zone == 'UTC' else to_local(known, zone)) ~ ' as date)' -%}
    {%- if local not in days %}{% do days.append(local) %}{% endif -%}
  {%- endfor -%}
  {{ 'least(' ~ (days | join(', ')) ~ ')' if days | length > 1 else days[0] if days else 'cast(' ~ known ~ ' as date)' }}
{%- endmacro %}
