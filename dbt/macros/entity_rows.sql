{#-
  Rows of all feeds that map onto the entity, from the batches of `{{ new_batches() }}`: one row per row staged,
  typed, with `reasons` ('[]' where it can be taken) and, where it cannot, `raw` as JSON text. A row that was
  replayed comes with the batch of its last replay.
-#}
{% macro entity_rows(entity_name) %}
{%- set entity = c360.entity(entity_name) -%}
{%- set feeds = declared_feeds(entity_name) -%}
{%- if execute and not feeds -%}
  {%- do exceptions.raise_compiler_error("no feed maps onto entity '" ~ entity_name ~ "': say `entity: " ~ entity_name ~ "` in a feed's declaration") -%}
{%- endif -%}
with

ledger as (
  select * from {{ source('staging', 'object_ledger') }}
),

replays as (
  {{- replays() }}
),
{% for feed in feeds %}
{{ feed.name }}_received as (
  {{- received_rows(entity, feed) }}
),

{{ feed.name }}_parsed as (
  {{- parsed_rows(entity, feed) }}
),

{{ feed.name }}_timed as (
  {{- timed_rows(feed) }}
),

{{ feed.name }}_checked as (
  {{- checked_rows(entity, feed) }}
),
{% endfor %}
final as (
  {%- for feed in feeds %}
  select
    _feed, _key, _etag, _row, _loaded_batch, _batch, known_at,
    {{ entity.key | join(', ') }},
    cast(event_time as {{ timestamp_type() }}) as event_time,
    position,
    op,
    {%- for column in entity.attributes %}
    case when op = 'upsert' then {{ typed_name(entity, column) }} end as {{ column }},
    {%- endfor %}
    case op when 'upsert' then content when 'delete' then {{ sha256_text("''") }} end as content,
    reasons,
    case when reasons <> '[]' then {{ raw_record(feed) }} end as raw
  from {{ feed.name }}_checked
  {{ 'union all' if not loop.last }}
  {%- endfor %}
)

select * from final
{% endmacro %}

{#- Where a column's typed value stands while its text is still at hand. -#}
{% macro typed_name(entity, column) -%}
  {{ column if entity.types.get(column, 'varchar') == 'varchar' else column ~ '_typed' }}
{%- endmacro %}

{#- The attributes that are more than text. -#}
{% macro typed_attributes(entity) %}
  {%- set found = [] -%}
  {%- for column in entity.attributes if entity.types.get(column, 'varchar') != 'varchar' %}{% do found.append(column) %}{% endfor -%}
  {%- do return(found) -%}
{% endmacro %}

{#- The feed's rows under the entity's names: text, trimmed. -#}
{% macro received_rows(entity, feed) %}
  {%- set map = feed.feed.get('map') or {} -%}
  {%- set stated = {
    'stated_time': (feed.feed.get('event_time') or {}).get('column'),
    'stated_position': (feed.feed.get('position') or {}).get('column'),
    'stated_operation': (feed.feed.get('operation') or {}).get('column'),
  } -%}
  {%- for column in entity.key + entity.attributes -%}
    {%- set received = map.get(column, column) -%}
    {%- do stated.update({column: received if received in feed.columns else none}) -%}
  {%- endfor %}
  select
    {{- record_lineage(feed) }}
    {%- for name, column in stated.items() %}
    {{ received_text(feed, 's.' ~ column) if column else 'cast(null as varchar)' }} as {{ name }},
    {%- endfor %}
    {{- as_received(feed) }}
  from {{ feed.relation }} as s
  {{- record_joins(feed) }}
  where coalesce(replays.batch, s._batch) in (select batch from {{ new_batches() }})
{% endmacro %}

{#- Beside the text: its typed value, null where it has none. -#}
{% macro parsed_rows(entity, feed) %}
  {%- set operation = feed.feed.get('operation') or {} %}
  select
    *,
    {{ parsed_wall_clock('stated_time') }} as wall_clock,
    {{ parsed_offset('stated_time') }} as stated_offset,
    {{ parsed_position('stated_position') }} as parsed_position,
    {%- for column in typed_attributes(entity) %}
    {{ parsed(column, entity.types[column]) }} as {{ typed_name(entity, column) }},
    {%- endfor %}
    case
      when stated_operation is null then 'upsert'
      {%- for op in ['upsert', 'delete'] if operation.get(op) %}
      when upper(stated_operation) in ('{{ operation[op] | map('upper') | join("', '") }}') then '{{ op }}'
      {%- endfor %}
    end as op
  from {{ feed.name }}_received
{% endmacro %}

{% macro checked_rows(entity, feed) %}
  {%- set conditions = {} -%}
  {%- for column in entity.key %}{% do conditions.update({'missing_key:' ~ column: column ~ ' is null'}) %}{% endfor -%}
  {%- do conditions.update({
    'missing_event_time': 'object_time is null and stated_time is null',
    'bad_event_time': 'object_time is null and stated_time is not null and wall_clock is null',
    'unclear_event_time': 'is_unclear_time',
    'bad_operation': 'op is null',
    'bad_position': 'stated_position is not null and parsed_position is null',
  }) -%}
  {%- for column in typed_attributes(entity) -%}
    {%- do conditions.update({
      'bad_' ~ entity.types[column].split('(')[0] ~ ':' ~ column:
      "coalesce(op, 'upsert') = 'upsert' and " ~ column ~ ' is not null and ' ~ typed_name(entity, column) ~ ' is null'
    }) -%}
  {%- endfor %}
  {%- set expressions = {} -%}
  {%- for column in entity.attributes %}{% do expressions.update({column: typed_name(entity, column)}) %}{% endfor %}
  select
    *,
    coalesce(
      parsed_position, case when object_time is not null then {{ ordinal_position('_row') }} end
    ) as position,
    {{ content_hash(expressions, entity.types) }} as content,
    {{ reasons_that_hold(conditions) }} as reasons
  from {{ feed.name }}_timed
{% endmacro %}
