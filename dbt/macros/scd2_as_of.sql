{#-
  Two times: what held at an instant, as it was known at another. Folded anew from the copies of the events, because a copy
  that came later may have raised a position, and an object that was replaced since was believed then.
-#}

{#- Events known at an instant, in the shape in which the fold takes them: nothing is stored yet. -#}
{% macro scd2_known(entity, events, known_at) %}
  {%- set identity = scd2_identity(entity) | join(', ') %}
  select
    {{ identity }},
    max(events.position) as position,
    {%- if entity.partial %}
    case when count(events.given) = count(*) then max(events.given) end as given,
    {%- elif scd2_keeps_state(entity) %}
    {{ content_hash(by_max(entity.tracked), entity.types) }} as state_hash,
    {%- endif %}
    {%- for column in entity.attributes %}
    max(events.{{ column }}) as {{ column }},
    {%- endfor %}
    {{ row_number_of_any() }} as _id,
    false as is_stored,
    cast(null as {{ timestamp_type() }}) as since,
    cast(null as {{ timestamp_type() }}) as stored_version_from,
    cast(null as varchar) as stored_change_type
  from {{ events }} as events
  left join ({{ batches_came() }}) as taken_back
    on events._retracted_by = taken_back.batch
  where events.known_at <= {{ known_at }}
    and (events._retracted_by is null or taken_back.came_at > {{ known_at }})
  group by {{ identity }}
{% endmacro %}

{#- When each batch came: loaded, or replayed. -#}
{% macro batches_came() %}
    select batch, min(came_at) as came_at
    from (
      select batch, loaded_at as came_at from {{ staged('object_ledger') }}
      union all
      select batch, decided_at as came_at from {{ staged('quarantine_decisions') }}
    ) as arrivals
    group by batch
{% endmacro %}

{#- {column: its aggregate}, where all rows of a group agree. -#}
{% macro by_max(columns) %}
  {%- set expressions = {} -%}
  {%- for column in columns %}{% do expressions.update({column: 'max(events.' ~ column ~ ')'}) %}{% endfor -%}
  {%- do return(expressions) -%}
{% endmacro %}

{#- The history as it was believed at `known_at`, an expression. -#}
{% macro scd2_history_as_of(entity, events, known_at) %}
  {%- set known = '(' ~ scd2_known(entity, events, known_at) ~ ') as known' -%}
  {{ scd2_versions(entity, '(' ~ scd2_folded(entity, known, entity.attributes) ~ ') as folded') }}
{%- endmacro %}

{#- The name of the table function that gives a relation as of an instant. -#}
{% macro as_of_name(relation) %}
  {%- do return(relation.database ~ '.' ~ relation.schema ~ '.' ~ relation.identifier ~ '_as_of') -%}
{% endmacro %}

{#-
  Post-hook of the history: the table functions `<entity>_history_as_of(known_at)` and `<entity>_as_of(valid_at, known_at)`.
  Both instants are UTC timestamps.
-#}
{% macro as_of_functions(entity_name, events) %}
  {%- if execute -%}
    {%- set entity = c360.entity(entity_name) -%}
    {%- set schema = this.database ~ '.' ~ this.schema -%}
    {%- set columns = [] -%}
    {%- for column in entity.key + entity.attributes -%}
      {%- do columns.append(column ~ ' ' ~ engine_type(entity.types.get(column, 'varchar'))) -%}
    {%- endfor -%}
    {%- do columns.extend([
      'valid_from ' ~ timestamp_type(), 'valid_to ' ~ timestamp_type(), 'is_current boolean', 'change_type varchar', 'ended_by varchar',
    ]) -%}
    {%- do table_function(schema ~ '.' ~ entity.name ~ '_history_as_of', columns,
      [(['known_at'], scd2_history_as_of(entity, events, argument('known_at')))]) -%}
    {%- set valid -%}
      select {{ (entity.key + entity.attributes + ['valid_from', 'valid_to', 'is_current', 'change_type', 'ended_by']) | join(', ') }}
      from ({{ scd2_history_as_of(entity, events, argument('known_at')) }}) as history
      where valid_from <= {{ argument('valid_at') }} and (valid_to is null or valid_to > {{ argument('valid_at') }})
    {%- endset -%}
    {%- do table_function(schema ~ '.' ~ entity.name ~ '_as_of', columns, [(['valid_at', 'known_at'], valid)]) -%}
  {%- endif -%}
{% endmacro %}
