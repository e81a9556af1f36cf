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
  {%- for column in c360.entity(entity).key %} or {{ column }} is null{% endfor %}
{% endtest %}

{% test one_row_per_key(model, entity) %}
{%- set key = c360.entity(entity).key | join(', ') %}
select {{ key }}, count(*) as count_rows
from {{ model }}
group by {{ key }}
having count(*) > 1
{% endtest %}

{% test none_held(model) %}
select * from {{ model }} where verdict = 'held'
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

{#- All of the above as one check: the key, and what is wrong there. -#}
{% test sound_history(model, entity) %}
{%- set key = c360.entity(entity).key | join(', ') -%}
{%- set faults = {
  'several open versions': test_one_open_version(model, entity),
  'empty or backwards, or no key': test_no_empty_version(model, entity),
  'overlap': test_no_overlap(model, entity),
  'gap without a delete, or marks that contradict': test_gap_only_after_delete(model, entity),
  'equal versions touch': test_touching_versions_differ(model, entity),
} -%}
{%- for fault, rows in faults.items() %}
select '{{ fault }}' as fault, {{ key }} from ({{ rows }}) as broken
{{ 'union all' if not loop.last }}
{%- endfor %}
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

{#-
  As many events in the log as the accounting says were accepted from the objects that stand, less the truncates, which are
  no event of any key, and with the deletes that follow from absence where no row says them too.
-#}
{% test as_many_as_accepted(model, entity, accepted, superseded, copies, absences) %}
{%- set instant = c360.entity(entity).key + ['event_time'] %}
with logged as (
  select count(*) as count_logged from {{ model }}
),

counted as (
  {{ accepted_and_standing(accepted, superseded) }}
),

truncates as (
  select count(*) as count_truncates
  from (select distinct event_time from {{ copies }} where op = 'truncate' and _retracted_by is null) as instants
),

deletes as (
  select distinct {{ instant | join(', ') }}
  from {{ copies }}
  where op = 'delete' and _retracted_by is null
),

implied as (
  select distinct {{ instant | join(', ') }}
  from {{ absences }}
  where _retracted_by is null
),

implied_alone as (
  select count(*) as count_implied
  from implied
  left join deletes on {{ agree('implied', 'deletes', instant) }}
  where deletes.event_time is null
)

select count_logged, count_accepted, count_truncates, count_implied
from logged
cross join counted
cross join truncates
cross join implied_alone
where count_logged <> count_accepted - count_truncates + count_implied
{% endtest %}

{#-
  The history of a sample of keys (those of the newest batch first) against a rebuild from the log, by another way than
  the engine's: each run of equal states is an island, numbered over all events of the key. Partial events are filled anew
  from what they stated.
-#}
{% test equals_rebuild(model, entity, log, sample=500) %}
  {%- set declared = c360.entity(entity) -%}
  {%- set key = declared.key | join(', ') -%}
  {%- set state = scd2_state(declared) -%}
  {%- set shown = declared.key + ['valid_from', 'valid_to', 'change_type', 'ended_by', 'content'] -%}
  {%- set compared = declared.tracked if declared.type1_every_version else declared.attributes -%}
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
  select
    {{ 'log.' ~ ((scd2_identity(declared) + ['position', 'known_at']) | join(', log.')) }}
    {%- if declared.partial %},
    log.given
    {%- elif scd2_keeps_state(declared) %},
    log.state_hash
    {%- endif %}
    {%- for column in declared.attributes %},
    {% if declared.partial -%}
    case when log.given is null or substr(log.given, {{ loop.index }}, 1) = '1' then log.{{ column }} end as {{ column }}
    {%- else -%}
    log.{{ column }}
    {%- endif %}
    {%- endfor %}
  from {{ log }} as log
  inner join sampled on {{ agree('log', 'sampled', declared.key) }}
),
{{ scd2_filled(declared, 'events', []) if declared.partial }}
settled as (
  select
    *,
    row_number() over (
      partition by {{ key }}, event_time order by position desc nulls last, op asc, content desc
    ) as rank_in_instant
  from {{ 'stated' if declared.partial else 'events' }}
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
    {{ content_hash(by_name(compared, 'islands.'), declared.types) }} as content
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
    {{ content_hash(by_name(compared, 'history.'), declared.types) }} as content
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
