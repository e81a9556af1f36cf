{#- What an entity's log shows. No column of it depends on the order of arrival. -#}

{#- One row per key: its open version. -#}
{% macro scd2_current(entity_name, log) %}
  {%- set entity = c360.entity(entity_name) -%}
select
  {{ (entity.key + entity.attributes) | join(',\n  ') }},
  version_from as valid_from
from {{ log }}
where is_version and next_at is null
{%- endmacro %}

{% macro scd2_history(entity_name, log) %}{{ scd2_versions(c360.entity(entity_name), log) }}{% endmacro %}

{#-
  One row per key and version, of a log or of a fold. Type 1 columns are the version's own, or in every version those of
  the key's last upsert, as the entity declares.
-#}
{% macro scd2_versions(entity, log) %}
select
  {%- for column in entity.key + entity.attributes %}
  {%- if column in entity.type1 and entity.type1_every_version %}
  last_value({{ column }}) over (
    partition by {{ entity.key | join(', ') }} order by version_from rows between unbounded preceding and unbounded following
  ) as {{ column }},
  {%- else %}
  {{ column }},
  {%- endif %}
  {%- endfor %}
  version_from as valid_from,
  next_at as valid_to,
  next_at is null as is_current,
  change_type,
  ended_by
from {{ log }}
where is_version
{%- endmacro %}

{#- One row per version (I or U) and per delete that ended one (D, with what it ended). The open end is a date here only. -#}
{% macro scd2_change_data(entity_name, history) %}
  {%- set entity = c360.entity(entity_name) -%}
  {%- set shown = (entity.key + entity.attributes) | join(', ') -%}
with

history as (
  select * from {{ history }}
),

versions as (
  select
    {{ shown }},
    valid_from as start_time,
    coalesce(valid_to, cast('9999-12-31 00:00:00' as {{ timestamp_type() }})) as end_time,
    is_current,
    case change_type when 'insert' then 'I' else 'U' end as dml_type
  from history
),

deletes as (
  select
    {{ shown }},
    valid_to as start_time,
    valid_to as end_time,
    false as is_current,
    'D' as dml_type
  from history
  where ended_by = 'delete'
),

final as (
  select * from versions
  union all
  select * from deletes
)

select * from final
{%- endmacro %}

{#- Every tie of the log. -#}
{% macro scd2_all_ties(entity_name, log) %}{{ scd2_tie_rows(c360.entity(entity_name), log) }}{% endmacro %}

{#- One row per key, instant and position with several different events: who won, who lost, by which rule. -#}
{% macro scd2_tie_rows(entity, events) %}
  {%- set instant = (entity.key + ['event_time']) | join(', ') -%}
with

peers as (
  select
    {{ instant }}, position, op, content,
    row_number() over (partition by {{ instant }}, position order by op asc, content desc) as rank_in_tie,
    count(*) over (partition by {{ instant }}, position) as count_peers
  from {{ events }} as events
)

select
  {{ instant }},
  max(case when rank_in_tie = 1 then content end) as winner,
  {{ sorted_json_array('case when rank_in_tie > 1 then content end') }} as losers,
  max(case when rank_in_tie = 1 then case op when 'delete' then 'delete' else 'content' end end) as rule
from peers
where count_peers > 1
group by {{ instant }}, position
{%- endmacro %}

{#- The keys of which an event came or went, with the batch of the run. What one run makes of several batches is one change. -#}
{% macro scd2_changes(entity_name, log) %}
  {%- set key = c360.entity(entity_name).key | join(', ') -%}
select
  {{ key }},
  min(event_time) as since,
  _batch as batch
from {{ log }}
group by {{ key }}, _batch
{%- endmacro %}
