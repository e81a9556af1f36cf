{#-
  How many events each object version was the first to bring, counted from the rows alone, without a look at the log:
  so the log can be held against it. One row per batch and object version whose count grew.

  `identity`: the columns that say which event a row tells, such as key, time, operation and content; `telling`: the one of
  them that tells most apart. Accepted is the earliest copy, by arrival (batch, key, row), among the copies that stand. When
  that copy's object is superseded, the acceptance passes to the next copy that stands.
-#}
{% macro accepted_rows(identity, events, telling='content') %}
{%- set identity = identity | join(', ') -%}
{%- set copy = identity ~ ', _feed, _key, _etag, _row, _loaded_batch, _batch, _retracted_by' -%}
with

new_batches as (
  select batch from {{ new_batches() }}
),

-- Only events of which something comes or goes now.
touched as (
  {{ coming_or_going(identity, events, 'new_batches') }}
),

-- Most come for the first time: of what is there one column is read, and more only of those that come again.
come_before as (
  select distinct {{ telling }}
  from {{ events }} as events
  inner join touched using ({{ telling }})
  where _batch not in (select batch from new_batches)
),

again as (
  select touched.*
  from touched
  inner join come_before using ({{ telling }})
),

copies as (
  select {{ copy }}, true as is_new
  from {{ events }} as events
  where _batch in (select batch from new_batches)

  union all

  select {{ copy }}, false as is_new
  from {{ events }} as events
  inner join again using ({{ identity }})
  where _batch not in (select batch from new_batches)
),

-- Most events have one copy, and need no sorting.
contested as (
  select {{ identity }}, count(*) as count_copies
  from copies
  group by {{ identity }}
  having count(*) > 1
),

ranked as (
  select
    copies.*,
    taken_back.batch is not null as is_retracted_now,
    row_number() over (partition by {{ identity }} order by _batch, _key, _row, _etag) as arrival
  from copies
  inner join contested using ({{ identity }})
  left join new_batches as taken_back on copies._retracted_by = taken_back.batch
),

firsts as (
  select
    *,
    min(case when _retracted_by is null then arrival end) over (partition by {{ identity }}) as first_standing,
    min(case when not is_new and (_retracted_by is null or is_retracted_now) then arrival end)
      over (partition by {{ identity }}) as first_before,
    row_number() over (partition by {{ identity }}, _feed, _key, _etag, _loaded_batch order by _row) as copy_in_object
  from ranked
),

changes as (
  select
    _feed, _key, _etag, _loaded_batch,
    case
      -- the copy that holds the acceptance now and did not before
      when _retracted_by is null and arrival = first_standing and (is_new or first_before < first_standing) then 1
      -- came and was superseded since the last run: counted as it would have been in between
      when _retracted_by is not null and is_new and copy_in_object = 1 and first_before is null
        and (first_standing is null or arrival < first_standing) then 1
      else 0
    end as accepted
  from firsts

  union all

  select _feed, _key, _etag, _loaded_batch, 1 as accepted
  from copies
  left join contested using ({{ identity }})
  where contested.count_copies is null and is_new
)

select
  _feed, _key, _etag, _loaded_batch,
  (select max(batch) from new_batches) as _batch,
  sum(accepted) as accepted
from changes
group by _feed, _key, _etag, _loaded_batch
having sum(accepted) <> 0
{% endmacro %}

{#- Rows staged per object version, over every feed that is declared, or over those that no entity is made of. -#}
{% macro received_per_object(taken_as_is=false) %}
  {%- set feeds = [] -%}
  {%- for feed in declared_feeds() if not (taken_as_is and feed.feed.get('entity')) %}{% do feeds.append(feed) %}{% endfor -%}
  {%- for feed in feeds %}
  select cast('{{ feed.name }}' as varchar) as _feed, _key, _etag, count(*) as count_received
  from {{ feed.relation }}
  group by _key, _etag
  {{ 'union all' if not loop.last }}
  {%- else %}
  select cast(null as varchar) as _feed, cast(null as varchar) as _key, cast(null as varchar) as _etag, 0 as count_received
  where false
  {%- endfor %}
{% endmacro %}

{#- What the lines of a feed are counted as: a flat feed's line is its record. -#}
{% macro unit_of_line(feed) -%}
  {%- set nested = [] -%}
  {%- for f in declared_feeds() if f.feed.get('lines') %}{% do nested.append(f.name) %}{% endfor -%}
  case when {{ feed }} in ('{{ nested | join("', '") }}') then 'line' else 'row' end
{%- endmacro %}

{#- One row: how much was accepted from the objects that stand. -#}
{% macro accepted_and_standing(accepted, superseded) -%}
  select coalesce(sum(accepted.accepted), 0) as count_accepted
  from {{ accepted }} as accepted
  left join {{ superseded }} as superseded
    on {{ agree('accepted', 'superseded', ['_feed', '_key', '_etag', '_loaded_batch']) }}
  where superseded._key is null
{%- endmacro %}
