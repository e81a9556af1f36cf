{#-
  Rows of all feeds that map onto the entity, from the batches of `{{ new_batches(model) }}`: one row per row staged,
  typed, with `op` (upsert, delete; truncate, tombstone), `reasons` ('[]' where it can be taken) and, where it cannot, `raw` as JSON text. A row that was
  replayed comes with the batch of its last replay.
-#}
{% macro entity_rows(entity_name) %}
{%- set entity = c360.entity(entity_name) -%}
{%- set feeds = declared_feeds(entity_name) -%}
{%- if execute and not feeds -%}
  {%- do exceptions.raise_compiler_error("no feed maps onto entity '" ~ entity_name ~ "': say `entity: " ~ entity_name ~ "` in a feed's declaration") -%}
{%- endif -%}
{%- do made_for_this(entity) -%}
with

ledger as (
  select * from {{ source('staging', 'object_ledger') }}
),

replays as (
  {{- replays() }}
),
{% for feed in feeds %}
{%- if is_debezium(feed) %}
{{ feed.name }}_enveloped as (
  {{- debezium_enveloped(feed) }}
),

{{ feed.name }}_received as (
  {{- debezium_received(entity, feed) }}
),
{%- else %}
{{ feed.name }}_received as (
  {{- received_rows(entity, feed) }}
),
{%- endif %}

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
    {%- if entity.partial %}
    case when op = 'upsert' then {{ given_columns(entity, feed) }} end as given,
    {%- endif %}
    case when op = 'upsert' then content when op in ('delete', 'truncate') then {{ sha256_text("''") }} end as content,
    reasons,
    case when reasons <> '[]' then {{ raw_record(feed) }} end as raw
  from {{ feed.name }}_checked
  {{ 'union all' if not loop.last }}
  {%- endfor %}
)

select * from final
{% endmacro %}

{#-
  A log that was made for another declaration stops the run here, where everything of the entity begins: what comes between could only
  fail on a column that is not there.
-#}
{% macro made_for_this(entity) %}
  {#- What is only rendered, for a task of the warehouse, is asked there (assert_declaration). -#}
  {%- if execute and model.resource_type == 'model' and not should_full_refresh() -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.meta.get('entity', {}).get('name') == entity.name -%}
      {%- set log = load_cached_relation(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) -%}
      {%- if log is not none %}{% do scd2_same_declaration(entity, log) %}{% endif -%}
    {%- endfor -%}
  {%- endif -%}
{% endmacro %}

{#- The columns of what comes of it, in their order. -#}
{% macro entity_rows_columns(entity) %}
  {%- do return(['_feed', '_key', '_etag', '_row', '_loaded_batch', '_batch', 'known_at'] + entity.key + ['event_time', 'position', 'op']
    + entity.attributes + (['given'] if entity.partial else []) + ['content', 'reasons', 'raw']) -%}
{% endmacro %}

{#- Which attributes a row gives, as text of 1 and 0 by name, if it does not give them all; else null. -#}
{% macro given_columns(entity, feed) -%}
  {%- if feed.feed.get('kind') == 'partial' -%}
    {%- for column in entity.attributes -%}
      case when {{ typed_name(entity, column) }} is null then '0' else '1' end{{ ' || ' if not loop.last }}
    {%- endfor -%}
  {%- elif is_debezium(feed) -%}
    case when {{ entity.attributes | join('_unavailable or ') }}_unavailable then
    {%- for column in entity.attributes %}
      case when {{ column }}_unavailable then '0' else '1' end{{ ' || ' if not loop.last }}
    {%- endfor %}
    end
  {%- else -%}
    cast(null as varchar)
  {%- endif -%}
{%- endmacro %}

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
    {%- if column in entity.key and received in imputation(feed) -%}
      {%- do exceptions.raise_compiler_error("feed " ~ feed.name ~ ": impute: " ~ received ~ ": is of the key of " ~ entity.name ~ ": a record without it is refused") -%}
    {%- endif -%}
    {%- do stated.update({column: received if received in feed.columns else none}) -%}
  {%- endfor %}
  select
    {{- record_lineage(feed) }}
    {%- for name, column in stated.items() %}
    {{ joined_text(feed, name) if name in feed.feed.get('join', {}) else stated_text(feed, column) if column else 'cast(null as varchar)' }} as {{ name }},
    {%- endfor %}
    coalesce({{ fixed_number('_fixed_row') }}, s._row) as _ordinal,
    {{- as_received(feed) }}
  from {{ feed.relation }} as s
  {{- record_joins(feed) }}
  where coalesce(replays.batch, s._batch) in (select batch from {{ new_batches(entity.name ~ '_rows') }})
{% endmacro %}

{#- Several received texts as one, with / between; null where one of them is. A / of their own is written ~1, a ~ is ~0. -#}
{% macro joined_text(feed, column) -%}
  {%- for part in feed.feed['join'][column] -%}
    replace(replace({{ stated_text(feed, part) }}, '~', '~0'), '/', '~1'){{ " || '/' || " if not loop.last }}
  {%- endfor -%}
{%- endmacro %}

{#- Beside the text: its typed value, null where it has none. -#}
{% macro parsed_rows(entity, feed) %}
  {%- set operation = operations(feed) %}
  select
    *,
    {%- if is_debezium(feed) %}
    {{ debezium_wall_clock(feed) }} as wall_clock,
    0 as stated_offset,
    {%- else %}
    {{ parsed_wall_clock('stated_time') }} as wall_clock,
    {{ parsed_offset('stated_time') }} as stated_offset,
    {%- endif %}
    {{ parsed_position('stated_position') }} as parsed_position,
    {%- for column in typed_attributes(entity) %}
    {%- if is_debezium(feed) and entity.types[column] == 'date' %}
    case
      when {{ matches(column, '-?[0-9]{1,6}') }} then {{ date_of_days('cast(' ~ column ~ ' as int)') }}
      else {{ parsed(column, 'date') }}
    end as {{ typed_name(entity, column) }},
    {%- else %}
    {{ parsed(column, entity.types[column]) }} as {{ typed_name(entity, column) }},
    {%- endif %}
    {%- endfor %}
    cast(case
      {%- if not is_debezium(feed) %}
      when stated_operation is null then 'upsert'
      {%- endif %}
      {%- for op, codes in operation.items() if codes %}
      when upper(stated_operation) in ('{{ codes | map('upper') | join("', '") }}') then '{{ op }}'
      {%- endfor %}
    end as varchar) as op
  from {{ feed.name }}_received
{% endmacro %}

{#- {operation: codes that mean it} -#}
{% macro operations(feed) %}
  {%- if is_debezium(feed) -%}
    {%- do return({'upsert': ['r', 'c', 'u'], 'delete': ['d'], 'truncate': ['t'], 'tombstone': ['tombstone']}) -%}
  {%- endif -%}
  {%- set declared = feed.feed.get('operation') or {} -%}
  {%- do return({'upsert': declared.get('upsert'), 'delete': declared.get('delete')}) -%}
{% endmacro %}

{#-
  Does the object say in which order its records apply? Only one that gives their time: what a full load without times is given
  is the declaration's, and the first row of one of its files comes before no row of the next.
-#}
{% macro object_orders(feed) -%}
  {%- set initial = (feed.feed.get('event_time') or {}).get('initial') -%}
  object_time is not null{{ ' and object_time <> ' ~ utc_literal(initial) if initial }}
{%- endmacro %}

{% macro checked_rows(entity, feed) %}
  {%- set conditions = {} -%}
  {#- A truncate has no key, a tombstone nothing at all. -#}
  {%- set keyed = "coalesce(op, '') not in ('truncate', 'tombstone') and " if is_debezium(feed) else '' -%}
  {%- set timed = "coalesce(op, '') <> 'tombstone' and wall_clock is null and " if is_debezium(feed) else '' -%}
  {%- for column in entity.key %}{% do conditions.update({'missing_key:' ~ column: keyed ~ column ~ ' is null'}) %}{% endfor -%}
  {%- do conditions.update({
    'missing_event_time': timed ~ 'object_time is null and stated_time is null',
    'bad_event_time': 'object_time is null and stated_time is not null and wall_clock is null',
    'unclear_event_time': 'is_unclear_time',
    'bad_operation': 'op is null',
    'bad_position': 'stated_position is not null and parsed_position is null',
  }) -%}
  {%- if is_debezium(feed) and not entity.partial -%}
    {%- for column in entity.attributes %}{% do conditions.update({'unavailable_value:' ~ column: "op = 'upsert' and " ~ column ~ '_unavailable'}) %}{% endfor -%}
  {%- endif -%}
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
      parsed_position, case when {{ object_orders(feed) }} then {{ ordinal_position('_row' if is_debezium(feed) else '_ordinal') }} end
    ) as position,
    {{ content_hash(expressions, entity.types) }} as content,
    {{ reasons_that_hold(conditions) }} as reasons
  from {{ feed.name }}_timed
{% endmacro %}

{#-
  The rows that clean took, with the batch that replaced their object (`_retracted_by`), null where it stands. A truncate
  has the empty text for a key; what a tombstone says was said by the delete before it.
-#}
{% macro entity_copies(entity_name, rows, superseded) -%}
{%- set entity = c360.entity(entity_name) -%}
with

rows_taken as (
  select * from {{ rows }}
  where reasons = '[]' and op <> 'tombstone'
),

superseded as (
  select * from {{ superseded }}
),

final as (
  select
    rows_taken._feed, rows_taken._key, rows_taken._etag, rows_taken._row, rows_taken._loaded_batch, rows_taken._batch,
    rows_taken.known_at,
    {%- for column in entity.key %}
    coalesce(rows_taken.{{ column }}, '') as {{ column }},
    {%- endfor %}
    {%- for column in ['event_time', 'position', 'op'] + entity.attributes + (['given'] if entity.partial else []) %}
    rows_taken.{{ column }},
    {%- endfor %}
    rows_taken.content,
    superseded._retracted_by
  from rows_taken
  left join superseded
    on {{ agree('rows_taken', 'superseded', ['_feed', '_key', '_etag', '_loaded_batch']) }}
)

select * from final
{%- endmacro %}

{#- The stream that the history engine folds: what rows state, and what follows from absence. -#}
{% macro entity_events(entity_name, copies, absences) -%}
{%- set entity = c360.entity(entity_name) -%}
with

stated as (
  select * from {{ copies }}
  where op in ('upsert', 'delete')
),

absences as (
  select * from {{ absences }}
),

final as (
  select * from stated

  union all

  select
    _feed, _key, _etag,
    0 as _row,
    _batch as _loaded_batch,
    _batch, known_at,
    {{ entity.key | join(', ') }},
    event_time,
    position,
    'delete' as op,
    {%- for column in entity.attributes + (['given'] if entity.partial else []) %}
    null as {{ column }},
    {%- endfor %}
    {{ sha256_text("''") }} as content,
    _retracted_by
  from absences
)

select * from final
{%- endmacro %}
