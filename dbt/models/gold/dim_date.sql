{{ config(materialized='table') }}

with

digits as (
  {%- for digit in range(10) %}
  select {{ digit }} as digit {{ 'union all' if not loop.last }}
  {%- endfor %}
),

numbers as (
  select
    units.digit + 10 * tens.digit + 100 * hundreds.digit + 1000 * thousands.digit + 10000 * ten_thousands.digit as number
  from digits as units
  cross join digits as tens
  cross join digits as hundreds
  cross join digits as thousands
  cross join (select digit from digits where digit < 4) as ten_thousands
),

days as (
  select {{ date_of_days('number') }} as day
  from numbers
),

final as (
  select
    day as date_day,
    cast(extract(year from day) as integer) as year,
    cast(extract(quarter from day) as integer) as quarter,
    cast(extract(month from day) as integer) as month,
    cast(extract(day from day) as integer) as day_of_month,
    {{ iso_weekday('day') }} as iso_weekday,
    {{ iso_weekday('day') }} >= 6 as is_weekend,
    {{ month_of('day') }} as month_start
  from days
)

select * from final
