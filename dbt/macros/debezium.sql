{#-
  Change events in Debezium's envelope, bare or wrapped in `{schema, payload}`: one JSON document, of which `before` or
  `after` is the row. A tombstone (null) says again what the delete before it said; a truncate takes every key that the
  feed had. What comes out has the shape of any other received row.
-#}

{#- The record with its envelope. -#}
{% macro debezium_enveloped(feed) %}
  select
    {{- record_lineage(feed) }}
    {{ json_envelope('s.payload') }} as envelope,
    {{- as_received(feed) }}
  from {{ feed.relation }} as s
  {{- record_joins(feed) }}
  where coalesce(replays.batch, s._batch) in (select batch from {{ new_batches(feed.feed.entity ~ '_rows') }})
{% endmacro %}

{#- Under the entity's names, as text. The key of a delete is in the row before it, like everything of a delete. -#}
{% macro debezium_received(entity, feed) %}
  select
    *,
    {{ debezium_instant(feed) }} as stated_time,
    case
      when {{ json_at('envelope', ['source', 'pos']) }} is not null then
        coalesce({{ replaced(json_at('envelope', ['source', 'file']), '^.*[.]', '') }}, '0')
        || ':' || {{ json_at('envelope', ['source', 'pos']) }}
        || ':' || coalesce({{ json_at('envelope', ['source', 'row']) }}, '0')
      else {{ json_at('envelope', ['source', 'lsn']) }}
    end as stated_position,
    case when {{ json_is_null_document('envelope') }} then 'tombstone' else {{ json_at('envelope', ['op']) }} end as stated_operation,
    {%- for column in entity.key %}
    {{ debezium_column(feed, column) }} as {{ column }}{{ ',' if entity.attributes or not loop.last }}
    {%- endfor %}
    {%- for column in entity.attributes %}
    nullif({{ debezium_column(feed, column) }}, {{ debezium_unavailable() }}) as {{ column }},
    coalesce({{ debezium_column(feed, column) }} = {{ debezium_unavailable() }}, false) as {{ column }}_unavailable{{ ',' if not loop.last }}
    {%- endfor %}
  from {{ feed.name }}_enveloped
{% endmacro %}

{#- What stands where the source did not log a large value that an update left as it was: it is not given. -#}
{% macro debezium_unavailable() %}'__debezium_unavailable_value'{% endmacro %}

{% macro debezium_column(feed, column) -%}
  {%- set fields = (feed.feed.get('map') or {}).get(column, column) -%}
  {%- set fields = [fields] if fields is string else fields -%}
  case {{ json_at('envelope', ['op']) }}
      when 'd' then {{ debezium_field(feed, 'before', fields) }}
      else {{ debezium_field(feed, 'after', fields) }}
    end
{%- endmacro %}

{#- The first of the fields that the row image gives. -#}
{% macro debezium_field(feed, image, fields) -%}
  coalesce({% for field in fields %}{{ received_text(feed, json_at('envelope', [image, field])) }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{#-
  Microseconds since 1970 as text: the source's time, else the envelope's; finer ones are cut. The envelope of a row that a full
  load reads tells when it was read, not since when it holds: without a time of the source it has the feed's initial one.
-#}
{% macro debezium_instant(feed) -%}
  {%- set initial = (feed.feed.get('event_time') or {}).get('initial') -%}
  coalesce(
    {{ debezium_microseconds(['source']) }},
    {{ "case when " ~ json_at('envelope', ['op']) ~ " <> 'r' then" if initial }}
    {{ debezium_microseconds([]) }}
    {{ 'end' if initial }}
  )
{%- endmacro %}

{% macro debezium_microseconds(place) -%}
  {%- set ns = json_at('envelope', place + ['ts_ns']) -%}
  coalesce(
    case when {{ ns }} is not null then coalesce(nullif(substr({{ ns }}, 1, greatest(length({{ ns }}) - 3, 0)), ''), '0') end,
    {{ json_at('envelope', place + ['ts_us']) }},
    {{ json_at('envelope', place + ['ts_ms']) }} || '000'
  )
{%- endmacro %}

{#- The instant of `stated_time`; of a row that a full load reads without any time, the feed's initial one. -#}
{% macro debezium_wall_clock(feed) -%}
  {%- set initial = (feed.feed.get('event_time') or {}).get('initial') -%}
  case
    when {{ matches('stated_time', '[0-9]{1,17}') }} then {{ instant_of_microseconds('cast(stated_time as bigint)') }}
    {%- if initial %}
    when stated_time is null and stated_operation = 'r' then {{ utc_literal(initial) }}
    {%- endif %}
  end
{%- endmacro %}

{#- A literal of an instant given as ISO text. -#}
{% macro utc_literal(text) -%}
  {%- set instant = modules.datetime.datetime.fromisoformat(text | string) -%}
  {%- set instant = instant.astimezone(modules.pytz.utc) if instant.tzinfo else instant -%}
  cast('{{ instant.strftime('%Y-%m-%d %H:%M:%S.%f') }}' as {{ timestamp_type() }})
{%- endmacro %}
