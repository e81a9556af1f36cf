{#- The invariants of a history. Each test returns the rows that break it. -#}

{% test one_open_version(model, entity) %}
{%- set key = c360.entity(entity).key | join(', ') %}
select {{ key }}, count(*) as count_open
from {{ model }}
where valid_to is null
group by {{ key }}
having count(*) > 1
{% endtest %}

{% test no_empty_version(model, entity) %}
select {{ c360.entity(entity).key | join(', ') }}, valid_from, valid_to
from {{ model }}
where valid_from is null or valid_to <= valid_from
{% endtest %}

{% test no_overlap(model, entity) %}
with versions as ({{ versions_with_next(model, entity) }})

select * from versions
where next_valid_from < valid_to or (valid_to is null and next_valid_from is not null)
{% endtest %}

{#- Versions touch unless a delete came between them, and the marks say which. -#}
{% test gap_only_after_delete(model, entity) %}
with versions as ({{ versions_with_next(model, entity) }})

select * from versions
where (valid_to is null and ended_by is not null)
  or (valid_to is not null and ended_by is null)
  or (ended_by = 'update' and (next_valid_from is null or next_valid_from <> valid_to))
  or (ended_by = 'delete' and next_valid_from = valid_to)
  or (next_change_type = 'insert' and ended_by <> 'delete')
  or (next_change_type = 'update' and ended_by <> 'update')
{% endtest %}

{% test touching_versions_differ(model, entity) %}
with versions as ({{ versions_with_next(model, entity, with_tracked=true) }})

select * from versions
where next_valid_from = valid_to and next_tracked = tracked
{% endtest %}

{#- The current table against the versions that are open in the log. -#}
{% test equals_open_versions(model, entity, log) %}
  {%- set shown = c360.entity(entity).key + c360.entity(entity).attributes + ['valid_from'] -%}
  {{ differences(model, '(' ~ scd2_current(entity, log) ~ ')', shown) }}
{% endtest %}

{#- The ties table against the ties of the log. -#}
{% test equals_ties_of_log(model, entity, log) %}
  {%- set shown = c360.entity(entity).key + ['event_time', 'winner', 'losers', 'rule'] -%}
  {{ differences(model, '(' ~ scd2_all_ties(entity, log) ~ ')', shown) }}
{% endtest %}

{#- As many events in the log as the accounting says were accepted from the objects that stand. -#}
{% test as_many_as_accepted(model, accepted, superseded) %}
with logged as (
  select count(*) as count_logged from {{ model }}
),

counted as (
  {{ accepted_and_standing(accepted, superseded) }}
)

select count_logged, count_accepted
from logged
cross join counted
where count_logged <> count_accepted
{% endtest %}

{#-
  The history of a sample of keys (those of the newest batch first) against a rebuild from the log, by another way than
  the engine's: each run of equal states is an island, numbered over all events of the key.
-#}
{% test equals_rebuild(model, entity, log, sample=500) %}
  {%- set declared = c360.entity(entity) -%}
  {%- set key = declared.key | join(', ') -%}
  {%- set state = scd2_state(declared) -%}
  {%- set shown = declared.key + ['valid_from', 'valid_to', 'change_type', 'ended_by', 'content'] -%}
with

newest as (
  select {{ key }}, min(content) as pick
  from {{ log }}
  where _batch = (select max(_batch) from {{ log }})
  group by {{ key }}
  order by pick
  limit {{ sample }}
),

others as (
  select {{ key }}, min(content) as pick
  from {{ log }}
  where content like '00%'
  group by {{ key }}
  order by pick
  limit {{ sample }}
),

sampled as (
  select {{ key }} from newest
  union
  select {{ key }} from others
),

events as (
  select log.*
  from {{ log }} as log
  inner join sampled on {{ agree('log', 'sampled', declared.key) }}
),

settled as (
  select
    *,
    row_number() over (
      partition by {{ key }}, event_time order by position desc nulls last, op asc, content desc
    ) as rank_in_instant
  from events
),

numbered as (
  select
    *,
    lag(op || {{ state }}) over (partition by {{ key }} order by event_time) as before,
    lag(op) over (partition by {{ key }} order by event_time) as op_before
  from settled
  where rank_in_instant = 1
),

islands as (
  select
    *,
    sum(case when before = op || {{ state }} then 0 else 1 end) over (
      partition by {{ key }} order by event_time rows unbounded preceding
    ) as island
  from numbered
),

runs as (
  select
    {{ key }}, island, op,
    min(event_time) as valid_from,
    max(event_time) as last_at,
    coalesce(max(case when op_before is null or op_before = 'delete' then 'insert' end), 'update') as change_type
  from islands
  group by {{ key }}, island, op
),

rebuilt as (
  select
    {{ 'runs.' ~ (declared.key | join(', runs.')) }},
    runs.valid_from,
    lead(runs.valid_from) over (partition by {{ 'runs.' ~ (declared.key | join(', runs.')) }} order by runs.island) as valid_to,
    runs.op,
    runs.change_type,
    lead(runs.op) over (partition by {{ 'runs.' ~ (declared.key | join(', runs.')) }} order by runs.island) as op_after,
    islands.content
  from runs
  inner join islands
    on {{ agree('runs', 'islands', declared.key) }} and runs.island = islands.island and runs.last_at = islands.event_time
),

expected as (
  select
    {{ key }}, valid_from, valid_to, change_type,
    case op_after when 'delete' then 'delete' when 'upsert' then 'update' end as ended_by,
    content
  from rebuilt
  where op = 'upsert'
),

actual as (
  select
    {{ 'history.' ~ (declared.key | join(', history.')) }},
    history.valid_from, history.valid_to, history.change_type, history.ended_by,
    {{ content_hash(by_name(declared.attributes, 'history.'), declared.types) }} as content
  from {{ model }} as history
  inner join sampled on {{ agree('history', 'sampled', declared.key) }}
)

{{ differences('actual', 'expected', shown) }}
{% endtest %}

{#- Every row received is accepted, in quarantine or a duplicate. -#}
{% test adds_up(model) %}
select *
from {{ model }}
where received <> accepted + quarantined + duplicates
  or accepted < 0 or quarantined < 0 or duplicates < 0
{% endtest %}
