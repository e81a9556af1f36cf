{#-
  Clicks: what visitors did, whatever shape it came in: one row per record, typed, with `reasons` ('[]' where it can be
  taken) and, where it cannot, `raw`. A feed of kind `clicks` is flat or has JSON documents.

  A click without an id is told by its content, so that the same one sent again is known. `visitor` is who did it as far as
  the record says: the session that it names, or the customer where it names none; null where it names neither.
-#}
{% macro click_rows(entity_name) %}
{%- set entity = c360.entity(entity_name) -%}
{%- set feeds = declared_feeds(entity_name) -%}
with

ledger as (
  select * from {{ source('staging', 'object_ledger') }}
),

replays as (
  {{- replays() }}
),
{% for feed in feeds %}
{{ stated_clicks(feed) }}

{{ feed.name }}_parsed as (
  {{- parsed_clicks(feed) }}
),

{{ feed.name }}_timed as (
  {{- timed_rows(feed) }}
),

{{ feed.name }}_typed as (
  {{- typed_clicks(feed) }}
),

{{ feed.name }}_checked as (
  {{- checked_clicks(entity, feed) }}
),
{% endfor %}
final as (
  {%- for feed in feeds %}
  select
    _feed, _key, _etag, _row, _loaded_batch, _batch, _last_modified, known_at,
    coalesce(stated_event_id, 'content:' || content) as event_id,
    {{ entity.attributes | join(', ') }},
    content,
    reasons,
    case when reasons <> '[]' then {{ 'raw' if feed.columns == ['payload'] else raw_record(feed) }} end as raw
  from {{ feed.name }}_checked
  {{ 'union all' if not loop.last }}
  {%- endfor %}
)

select * from final
{% endmacro %}

{#- `<feed>_stated`: the texts that each record states. -#}
{% macro stated_clicks(feed) %}
{%- set columns = ['event_id', 'event_type', 'customer_id', 'session_id', 'product_id', 'amount', 'page_url', 'device_type'] -%}
{%- set renamed = {'event_id': 'stated_event_id', 'amount': 'stated_amount'} -%}
{%- set time = feed.feed.event_time.get('column') -%}
{%- set payload = feed.columns == ['payload'] -%}
{%- if payload -%}
  {%- set fields = [time] if time else [] -%}
  {%- for path in (feed.feed.get('map') or {}).values() %}{% do fields.append(path.split('.')[0]) %}{% endfor %}
{{ feed.name }}_documents as (
  select
    {{- record_lineage(feed) }}
    s.payload as raw,
    {{ json_document('s.payload', fields) }} as document
  from {{ feed.relation }} as s
  {{- record_joins(feed) }}
  where coalesce(replays.batch, s._batch) in (select batch from {{ new_batches() }})
),

{{ feed.name }}_stated as (
  select
    _feed, _key, _etag, _row, _loaded_batch, _batch, known_at, _last_modified, object_time, raw,
    {%- for column in columns %}
    {{ mapped_text(feed, column, click_field(field_of(feed, column)) if field_of(feed, column)) }} as {{ renamed.get(column, column) }},
    {%- endfor %}
    {{ trimmed(json_field('document', time)) if time else 'cast(null as varchar)' }} as stated_time
  from {{ feed.name }}_documents
),
{%- else %}
{{ feed.name }}_stated as (
  select
    {{- record_lineage(feed) }}
    {%- for column in columns %}
    {{ mapped_text(feed, column, 's.' ~ field_of(feed, column) if field_of(feed, column)) }} as {{ renamed.get(column, column) }},
    {%- endfor %}
    {{ trimmed('s.' ~ time) if time else 'cast(null as varchar)' }} as stated_time,
    {{- as_received(feed) }}
  from {{ feed.relation }} as s
  {{- record_joins(feed) }}
  where coalesce(replays.batch, s._batch) in (select batch from {{ new_batches() }})
),
{%- endif %}
{% endmacro %}

{% macro click_field(path) -%}
  {{ json_nested_field('document', 'raw', path) if '.' in path else json_field('document', path) }}
{%- endmacro %}

{#- Beside the text: the amount, and the wall clock of its time, which may be told in units since 1970. -#}
{% macro parsed_clicks(feed) %}
  {%- set units = {'seconds': 1000000, 'milliseconds': 1000, 'microseconds': 1} -%}
  {%- set unit = units.get(feed.feed.event_time.get('unit')) %}
  select
    *,
    {%- if unit %}
    {%- set number = try_typed('stated_time', 'decimal(28,6)') %}
    -- What is later than the year 9999 is told in another unit.
    case when {{ number }} between 0 and {{ 253402300799999999 // unit }}
      then {{ instant_of_microseconds('cast(' ~ number ~ ' * ' ~ unit ~ ' as bigint)') }} end as wall_clock,
    0 as stated_offset,
    {%- else %}
    {{ parsed_wall_clock('stated_time') }} as wall_clock,
    {{ parsed_offset('stated_time') }} as stated_offset,
    {%- endif %}
    {{ try_typed('stated_amount', 'decimal(18,4)') }} as amount
  from {{ feed.name }}_stated
{% endmacro %}

{% macro typed_clicks(feed) %}
  select
    *,
    cast(event_time as {{ timestamp_type() }}) as happened_at,
    cast(date_trunc('minute', event_time) as {{ timestamp_type() }}) as happened_minute,
    case
      when session_id is not null then 'session:' || session_id
      when customer_id is not null then 'customer:' || customer_id
    end as visitor
  from {{ feed.name }}_timed
{% endmacro %}

{% macro checked_clicks(entity, feed) %}
  {%- set conditions = {
    'missing_event_type': 'event_type is null',
    'missing_event_time': 'object_time is null and stated_time is null',
    'bad_event_time': 'object_time is null and stated_time is not null and wall_clock is null',
    'unclear_event_time': 'is_unclear_time',
    'bad_amount': 'stated_amount is not null and amount is null',
    'amount_negative': 'amount < 0',
  } %}
  select
    *,
    {{ content_hash(by_name(entity.attributes), entity.types) }} as content,
    {{ reasons_that_hold(conditions) }} as reasons
  from {{ feed.name }}_typed
{% endmacro %}

{#- Visitors of whom some click came or went: all their sessions are told anew, for a late click may join two. -#}
{% macro touched_visitors() %}
  select visitor from ({{ changed_rows('click_log') }}) as changed
  where visitor is not null
{% endmacro %}
