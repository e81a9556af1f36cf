{#-
  What is expected of a column of any table, in the words in which feeds declare it (`expect`): beside dbt's own `not_null`,
  `accepted_values` and `relationships`. Each test returns what breaks it. Learned bounds are told as those of feeds are
  (c360_assets/expectations.py): medians and robust deviations, of what came before what is judged.
-#}

{#- At most this share of the rows, if there are 20, is null. -#}
{% test null_share(model, column_name, bound) %}
select count_rows, count_null
from (
  select count(*) as count_rows, count(*) - count({{ column_name }}) as count_null
  from {{ model }}
) as counted
where count_rows >= 20 and count_null > {{ bound }} * count_rows
{% endtest %}

{#- The values that lie beyond, with how many rows have them. -#}
{% test at_least(model, column_name, bound) %}
select {{ column_name }}, count(*) as count_rows
from {{ model }}
where {{ column_name }} < {{ bound }}
group by {{ column_name }}
{% endtest %}

{% test at_most(model, column_name, bound) %}
select {{ column_name }}, count(*) as count_rows
from {{ model }}
where {{ column_name }} > {{ bound }}
group by {{ column_name }}
{% endtest %}

{#- At least so many different values, if there are any rows. -#}
{% test distinct(model, column_name, bound) %}
select count_rows, count_different
from (
  select count(*) as count_rows, count(distinct {{ column_name }}) as count_different
  from {{ model }}
) as counted
where count_rows > 0 and count_different < {{ bound }}
{% endtest %}

{#-
  The last `days` days that are over, by a date or an instant: each has about as many rows as the same weekdays of the eight
  weeks before it, of which at least four are there. A day without a row is one with none.
-#}
{% test volume(model, column_name, days=7) %}
{%- set weeks, least_weeks = 8, 4 %}
with

counted as (
  select
    cast({{ column_name }} as date) as day,
    count(*) as count_rows
  from {{ model }}
  where cast({{ column_name }} as date) < cast({{ utc_now() }} as date)
  group by cast({{ column_name }} as date)
),

ends as (
  select min(day) as first_day, max(day) as last_day from counted
),

judged as (
  select
    ends.last_day - back.number as day,
    ends.first_day
  from ends
  cross join ({{ numbers(0, days - 1) }}) as back
),

compared as (
  select
    judged.day,
    ln(1 + coalesce(counted.count_rows, 0)) as size
  from judged
  cross join ({{ numbers(1, weeks) }}) as week
  left join counted on counted.day = judged.day - 7 * week.number
  where judged.day - 7 * week.number >= judged.first_day
),

middles as (
  select
    day,
    median(size) as middle
  from compared
  group by day
  having count(*) >= {{ least_weeks }}
),

bounds as (
  select
    middles.day,
    middles.middle,
    greatest(3.5 * 1.4826 * median(abs(compared.size - middles.middle)), ln(2)) as width
  from middles
  inner join compared on middles.day = compared.day
  group by middles.day, middles.middle
),

told as (
  select
    bounds.day,
    coalesce(counted.count_rows, 0) as count_rows,
    cast(ceil(exp(greatest(0, bounds.middle - bounds.width)) - 1.000001) as bigint) as at_least,
    cast(floor(exp(bounds.middle + bounds.width) - 0.999999) as bigint) as at_most
  from bounds
  left join counted on bounds.day = counted.day
)

-- Of a few rows half and double say nothing.
select * from told
where (count_rows < at_least or count_rows > at_most) and greatest(count_rows, at_most) >= 20
{% endtest %}

{#-
  By an instant: no longer silence up to now than twice the longest of the last 30 between hours that have a row, of which at
  least eight are there.
-#}
{% test freshness(model, column_name) %}
{%- set least_gaps, most_gaps = 8, 30 %}
with

hours as (
  select distinct date_trunc('hour', cast({{ column_name }} as {{ timestamp_type() }})) as hour
  from {{ model }}
  where {{ column_name }} <= {{ utc_now() }}
),

gaps as (
  select
    hour,
    datediff('hour', lag(hour) over (order by hour), hour) as count_hours,
    row_number() over (order by hour desc nulls last) as nth
  from hours
),

usual as (
  select
    max(hour) as last_at,
    2 * max(count_hours) as hours_at_most,
    datediff('hour', max(hour), {{ utc_now() }}) as hours_silent
  from gaps
  where nth <= {{ most_gaps }}
  having count(count_hours) >= {{ least_gaps }}
)

select * from usual
where hours_silent > hours_at_most
{% endtest %}
