{#-
  Records as staged, on their way into clean: where they come from, with which batch, at which instant. What every kind
  of feed shares. A record that was replayed comes with the batch of its last replay.
-#}

{% macro replays() %}
  select feed, _key, _etag, _row, max(batch) as batch, max(decided_at) as decided_at
  from {{ source('staging', 'quarantine_decisions') }}
  where decision = 'replay'
  group by feed, _key, _etag, _row
{% endmacro %}

{#- Of the staged record `s`: lineage, batch, and the instant that its object gives, if it does. -#}
{% macro record_lineage(feed) %}
    cast('{{ feed.name }}' as varchar) as _feed,
    s._key,
    s._etag,
    s._row,
    s._batch as _loaded_batch,
    coalesce(replays.batch, s._batch) as _batch,
    coalesce(replays.decided_at, s._loaded_at) as known_at,
    ledger.last_modified as _last_modified,
    ledger.event_time as object_time,
{%- endmacro %}

{#-
  What the staged record `s`, landed corrected in an object of its own, was in the one that it came in: `_fixed_row`, its
  ordinal, or `_fixed_line`, its line of the receipt; null of any other record.
-#}
{% macro fixed_number(name) -%}
  {{ try_typed(json_field(json_document('s._extra', [name]), name), 'int') }}
{%- endmacro %}

{#- The staged record `s` with its object and the last replay. -#}
{% macro record_joins(feed) %}
  inner join ledger
    on ledger.feed = '{{ feed.name }}'
    and s._key = ledger.key
    and s._etag = ledger.etag
    and s._batch = ledger.batch
  {{- replay_join(feed) }}
{%- endmacro %}

{% macro replay_join(feed) %}
  left join replays
    on replays.feed = '{{ feed.name }}'
    and s._key = replays._key
    and s._etag = replays._etag
    and s._row = replays._row
    -- What was decided about an earlier load of the same version says nothing about this one.
    and s._batch < replays.batch
{%- endmacro %}

{#- The columns of the staged record `s` as they came, and the JSON text of them: made of refused records alone. -#}
{% macro as_received(feed) %}
  {%- for column in feed.columns %}
    s.{{ column }} as received_{{ column }}{{ ',' if not loop.last }}
  {%- endfor %}
{%- endmacro %}
{% macro raw_record(feed) %}
  {%- set columns = {} -%}
  {%- for column in feed.columns %}{% do columns.update({column: 'received_' ~ column}) %}{% endfor -%}
  {{ json_text(columns) }}
{%- endmacro %}

{#- A received text, trimmed; null where it is one of the texts that the feed declares to mean null. -#}
{% macro received_text(feed, column) -%}
  {%- set nulls = feed.feed.get('nulls') or [] -%}
  {%- if nulls -%}
    {%- set texts = [] -%}
    {%- for text in nulls %}{% do texts.append(literal(text)) %}{% endfor -%}
    case when {{ trimmed(column) }} in ({{ texts | join(', ') }}) then null else {{ trimmed(column) }} end
  {%- else -%}
    {{ trimmed(column) }}
  {%- endif -%}
{%- endmacro %}

{#- The field of the feed that a column is taken from, or none. -#}
{% macro field_of(feed, column) %}{% do return((feed.feed.get('map') or {}).get(column)) %}{% endmacro %}

{#- Text as received under our name: trimmed, stripped of what the feed declares, its constant where there is none. -#}
{% macro mapped_text(feed, column, expression) -%}
  {%- set constant = (feed.feed.get('constants') or {}).get(column) -%}
  {%- set pattern = (feed.feed.get('strip') or {}).get(column) -%}
  {%- set text = received_text(feed, expression) if expression else none -%}
  {%- set text = "nullif(" ~ replaced(text, pattern, '') ~ ", '')" if text and pattern else text -%}
  {%- if text and constant %}coalesce({{ text }}, '{{ constant }}')
  {%- elif text %}{{ text }}
  {%- elif constant %}cast('{{ constant }}' as varchar)
  {%- else %}cast(null as varchar)
  {%- endif -%}
{%- endmacro %}

{#- The instant of each row: its object's, or its own. -#}
{% macro timed_rows(feed) %}
  {%- set zone = (feed.feed.get('event_time') or {}).get('zone', 'UTC') %}
  select
    *,
    case
      when object_time is not null then object_time
      when stated_offset is not null then {{ minutes_earlier('wall_clock', 'stated_offset') }}
      else {{ 'wall_clock' if zone == 'UTC' else to_utc('wall_clock', zone) }}
    end as event_time,
    {% if zone == 'UTC' %}false{% else -%}
    object_time is null and stated_offset is null and coalesce({{ is_unclear_local('wall_clock', zone) }}, false)
    {%- endif %} as is_unclear_time
  from {{ feed.name }}_parsed
{% endmacro %}

{#-
  These columns of the copies of which one comes or goes with the named batches. Two questions: with one, by `or`, an engine
  looks at every copy there is.
-#}
{% macro coming_or_going(columns, copies, batches) -%}
  select {{ columns }} from {{ copies }} as coming
  where _batch in (select batch from {{ batches }})
  union
  select {{ columns }} from {{ copies }} as going
  where _retracted_by in (select batch from {{ batches }})
{%- endmacro %}

{#- The rows that clean took, with the batch that replaced their object (`_retracted_by`), null where it stands. -#}
{% macro copies_taken(rows, superseded) -%}
with

rows_taken as (
  select * from {{ rows }}
  where reasons = '[]'
),

superseded as (
  select * from {{ superseded }}
),

final as (
  select
    rows_taken.*,
    superseded._retracted_by
  from rows_taken
  left join superseded
    on {{ agree('rows_taken', 'superseded', ['_feed', '_key', '_etag', '_loaded_batch']) }}
)

select * from final
{%- endmacro %}
