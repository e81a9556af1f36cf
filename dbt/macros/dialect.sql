{#-
  Everything in which DuckDB and Snowflake differ, and nothing else. A model never says `target.type`.
  Text in, text out where not said otherwise.
-#}

{% macro sha256_text(text) %}{{ return(adapter.dispatch('sha256_text', 'c360')(text)) }}{% endmacro %}
{% macro duckdb__sha256_text(text) %}sha256({{ text }}){% endmacro %}
{% macro snowflake__sha256_text(text) %}sha2({{ text }}, 256){% endmacro %}

{#- UTF-8 bytes of a text, not its characters. -#}
{% macro byte_length(text) %}{{ return(adapter.dispatch('byte_length', 'c360')(text)) }}{% endmacro %}
{% macro duckdb__byte_length(text) %}strlen({{ text }}){% endmacro %}
{% macro snowflake__byte_length(text) %}length(to_binary({{ text }}, 'utf-8')){% endmacro %}

{#- Text without ASCII white space around it; nothing left is null. -#}
{% macro trimmed(text) -%}
  nullif(trim({{ text }}, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)), '')
{%- endmacro %}

{#- Does the whole text match? Patterns use [0-9], never \d: a backslash means two things in the two engines. -#}
{% macro matches(text, pattern) %}{{ return(adapter.dispatch('matches', 'c360')(text, pattern)) }}{% endmacro %}
{% macro duckdb__matches(text, pattern) %}regexp_full_match({{ text }}, '{{ pattern }}'){% endmacro %}
{% macro snowflake__matches(text, pattern) %}regexp_like({{ text }}, '{{ pattern }}'){% endmacro %}

{#- Every match replaced; groups in the replacement are written <1>, <2>. -#}
{% macro replaced(text, pattern, replacement) %}
  {{- return(adapter.dispatch('replaced', 'c360')(text, pattern, replacement)) -}}
{% endmacro %}
{% macro duckdb__replaced(text, pattern, replacement) -%}
  regexp_replace({{ text }}, '{{ pattern }}', '{{ replacement | replace('<', '\\') | replace('>', '') }}', 'g')
{%- endmacro %}
{% macro snowflake__replaced(text, pattern, replacement) -%}
  regexp_replace({{ text }}, '{{ pattern }}', '{{ replacement | replace('<', '\\\\') | replace('>', '') }}')
{%- endmacro %}

{#- The text as a value of the type; null where it is none. DuckDB reads 1_000 as a number, no source writes one so. -#}
{% macro try_typed(text, type) -%}
  {%- set plain = text if type in ('date', 'timestamp') else "case when position('_' in " ~ text ~ ") = 0 then " ~ text ~ " end" -%}
  {{- return(adapter.dispatch('try_typed', 'c360')(plain, type)) -}}
{%- endmacro %}
{% macro duckdb__try_typed(text, type) %}try_cast({{ text }} as {{ type }}){% endmacro %}
{% macro snowflake__try_typed(text, type) -%}
  try_cast({{ text }} as {{ 'timestamp_ntz' if type == 'timestamp' else type }})
{%- endmacro %}

{#- Microseconds, UTC, without zone. -#}
{% macro timestamp_type() %}{{ return(adapter.dispatch('timestamp_type', 'c360')()) }}{% endmacro %}
{% macro duckdb__timestamp_type() %}timestamp{% endmacro %}
{% macro snowflake__timestamp_type() %}timestamp_ntz(6){% endmacro %}

{% macro minutes_earlier(instant, minutes) %}
  {{- return(adapter.dispatch('minutes_earlier', 'c360')(instant, minutes)) -}}
{% endmacro %}
{% macro duckdb__minutes_earlier(instant, minutes) %}({{ instant }} - to_minutes({{ minutes }})){% endmacro %}
{% macro snowflake__minutes_earlier(instant, minutes) %}dateadd(minute, -({{ minutes }}), {{ instant }}){% endmacro %}

{#- A wall clock reading in a zone, as UTC, and back. -#}
{% macro to_utc(local, zone) %}{{ return(adapter.dispatch('to_utc', 'c360')(local, zone)) }}{% endmacro %}
{% macro duckdb__to_utc(local, zone) %}timezone('UTC', timezone('{{ zone }}', {{ local }})){% endmacro %}
{% macro snowflake__to_utc(local, zone) %}convert_timezone('{{ zone }}', 'UTC', {{ local }}){% endmacro %}
{% macro to_local(utc, zone) %}{{ return(adapter.dispatch('to_local', 'c360')(utc, zone)) }}{% endmacro %}
{% macro duckdb__to_local(utc, zone) %}timezone('{{ zone }}', timezone('UTC', {{ utc }})){% endmacro %}
{% macro snowflake__to_local(utc, zone) %}convert_timezone('UTC', '{{ zone }}', {{ utc }}){% endmacro %}

{% macro date_text(value) %}{{ return(adapter.dispatch('date_text', 'c360')(value)) }}{% endmacro %}
{% macro duckdb__date_text(value) %}strftime({{ value }}, '%Y-%m-%d'){% endmacro %}
{% macro snowflake__date_text(value) %}to_char({{ value }}, 'YYYY-MM-DD'){% endmacro %}

{% macro timestamp_text(value) %}{{ return(adapter.dispatch('timestamp_text', 'c360')(value)) }}{% endmacro %}
{% macro duckdb__timestamp_text(value) %}strftime({{ value }}, '%Y-%m-%dT%H:%M:%S.%fZ'){% endmacro %}
{% macro snowflake__timestamp_text(value) -%}
  to_char({{ value }}, 'YYYY-MM-DD') || 'T' || to_char({{ value }}, 'HH24:MI:SS.FF6') || 'Z'
{%- endmacro %}

{#- A JSON object of named expressions, nulls kept; the order of names is the engine's. -#}
{% macro json_text(columns) %}{{ return(adapter.dispatch('json_text', 'c360')(columns)) }}{% endmacro %}
{% macro duckdb__json_text(columns) -%}
  cast(json_object({% for name, value in columns.items() %}'{{ name }}', {{ value }}{{ ', ' if not loop.last }}{% endfor %}) as varchar)
{%- endmacro %}
{% macro snowflake__json_text(columns) -%}
  to_json(object_construct_keep_null({% for name, value in columns.items() %}'{{ name }}', {{ value }}{{ ', ' if not loop.last }}{% endfor %}))
{%- endmacro %}

{#-
  A JSON document, read once, of which `fields` are taken as text, and of the array `array` the `line_fields` of each
  element. What is no such thing is null. A number comes as the shortest text that reads as the same double.
-#}
{% macro json_document(payload, fields, array, line_fields) %}
  {{- return(adapter.dispatch('json_document', 'c360')(payload, fields, array, line_fields)) -}}
{% endmacro %}
{% macro duckdb__json_document(payload, fields, array, line_fields) -%}
  {%- set line = {} -%}
  {%- for field in line_fields %}{% do line.update({field: 'VARCHAR'}) %}{% endfor -%}
  {%- set document = {array: [line]} -%}
  {%- for field in fields %}{% do document.update({field: 'VARCHAR'}) %}{% endfor -%}
  from_json({{ payload }}, '{{ tojson(document) }}')
{%- endmacro %}
{% macro snowflake__json_document(payload, fields, array, line_fields) %}try_parse_json({{ payload }}){% endmacro %}

{#- A field of a document, or of an element of its array, as text. -#}
{% macro json_field(document, field) %}{{ return(adapter.dispatch('json_field', 'c360')(document, field)) }}{% endmacro %}
{% macro duckdb__json_field(document, field) %}{{ document }}."{{ field }}"{% endmacro %}
{% macro snowflake__json_field(document, field) %}cast({{ document }}:"{{ field }}" as varchar){% endmacro %}

{#- `object.field` of a document, as text; null where `object` is none. -#}
{% macro json_nested_field(document, payload, path) %}{{ return(adapter.dispatch('json_nested_field', 'c360')(document, payload, path)) }}{% endmacro %}
{% macro duckdb__json_nested_field(document, payload, path) -%}
  {%- set object, field = path.split('.') -%}
  case when {{ document }}."{{ object }}" is not null then json_extract_string({{ payload }}, '$."{{ object }}"."{{ field }}"') end
{%- endmacro %}
{% macro snowflake__json_nested_field(document, payload, path) -%}
  {%- set object, field = path.split('.') -%}
  cast({{ document }}:"{{ object }}":"{{ field }}" as varchar)
{%- endmacro %}

{#- Is the field there, and not null? -#}
{% macro json_is_given(document, payload, field) %}{{ return(adapter.dispatch('json_is_given', 'c360')(document, payload, field)) }}{% endmacro %}
{% macro duckdb__json_is_given(document, payload, field) -%}
  case when {{ document }}."{{ field }}" is not null then true else coalesce(json_type({{ payload }}, '$."{{ field }}"'), 'NULL') <> 'NULL' end
{%- endmacro %}
{% macro snowflake__json_is_given(document, payload, field) -%}
  coalesce(to_json({{ document }}:"{{ field }}"), 'null') <> 'null'
{%- endmacro %}

{% macro json_is_object(document, payload, field) %}{{ return(adapter.dispatch('json_is_object', 'c360')(document, payload, field)) }}{% endmacro %}
{% macro duckdb__json_is_object(document, payload, field) -%}
  case when {{ document }}."{{ field }}" is not null then json_type({{ payload }}, '$."{{ field }}"') = 'OBJECT' else false end
{%- endmacro %}
{% macro snowflake__json_is_object(document, payload, field) -%}
  coalesce(substr(to_json({{ document }}:"{{ field }}"), 1, 1), '') = '{'
{%- endmacro %}

{#- Is the document's array one? -#}
{% macro json_is_array(document, array) %}{{ return(adapter.dispatch('json_is_array', 'c360')(document, array)) }}{% endmacro %}
{% macro duckdb__json_is_array(document, array) %}{{ document }}."{{ array }}" is not null{% endmacro %}
{% macro snowflake__json_is_array(document, array) %}coalesce(is_array({{ document }}:"{{ array }}"), false){% endmacro %}

{#- How many elements it has; 0 where it is none. -#}
{% macro json_count(document, array) %}{{ return(adapter.dispatch('json_count', 'c360')(document, array)) }}{% endmacro %}
{% macro duckdb__json_count(document, array) %}coalesce(len({{ document }}."{{ array }}"), 0){% endmacro %}
{% macro snowflake__json_count(document, array) %}coalesce(array_size({{ document }}:"{{ array }}"), 0){% endmacro %}

{#- A row per element of the array, with `line`, counted from 1, and `item`. -#}
{% macro json_exploded(rows, columns, document, array) %}
  {{- return(adapter.dispatch('json_exploded', 'c360')(rows, columns, document, array)) -}}
{% endmacro %}
{% macro duckdb__json_exploded(rows, columns, document, array) -%}
  select
    {{ columns | join(', ') }},
    cast(generate_subscripts({{ document }}."{{ array }}", 1) as int) as line,
    unnest({{ document }}."{{ array }}") as item
  from {{ rows }}
{%- endmacro %}
{% macro snowflake__json_exploded(rows, columns, document, array) -%}
  select
    {{ 'r.' ~ (columns | join(', r.')) }},
    cast(f.index + 1 as int) as line,
    f.value as item
  from {{ rows }} as r, lateral flatten(input => case when is_array(r.{{ document }}:"{{ array }}") then r.{{ document }}:"{{ array }}" end) as f
{%- endmacro %}

{#- Aggregate: the texts as a JSON array, sorted. For texts that need no escaping: hashes, codes. -#}
{% macro sorted_json_array(text) %}{{ return(adapter.dispatch('sorted_json_array', 'c360')(text)) }}{% endmacro %}
{% macro duckdb__sorted_json_array(text) -%}
  '[' || coalesce(string_agg('"' || {{ text }} || '"', ',' order by {{ text }}), '') || ']'
{%- endmacro %}
{% macro snowflake__sorted_json_array(text) -%}
  '[' || coalesce(listagg('"' || {{ text }} || '"', ',') within group (order by {{ text }}), '') || ']'
{%- endmacro %}

{#-
  Runs DML statements as one transaction. On Snowflake any DDL commits, so there is none in it: work tables come first.
  On DuckDB dbt's own begin and commit are used, so that dbt rolls back where a statement fails.
-#}
{% macro in_one_transaction(statements) %}{{ return(adapter.dispatch('in_one_transaction', 'c360')(statements)) }}{% endmacro %}
{% macro duckdb__in_one_transaction(statements) %}
  {%- for sql in statements %}
    {%- call statement('main' if loop.last else 'part', auto_begin=True) %}{{ sql }}{% endcall %}
  {%- endfor %}
  {%- do adapter.commit() %}
{% endmacro %}
{% macro snowflake__in_one_transaction(statements) %}
  {%- call statement('main', auto_begin=False) %}
    begin;
    {% for sql in statements %}{{ sql }};
    {% endfor %}
    commit;
  {% endcall %}
{% endmacro %}

{#- A work table of this session. Unqualified, because a temporary table lives in the session, not in a schema of ours. -#}
{% macro work_table(name, sql) %}
  {%- call statement('work', auto_begin=False) %}
    create or replace temporary table {{ name }} as {{ sql }}
  {% endcall %}
{% endmacro %}

{#- Two rows agree on the columns, none of which is ever null. -#}
{% macro agree(left, right, columns) -%}
  {% for c in columns %}{{ left }}.{{ c }} = {{ right }}.{{ c }}{{ ' and ' if not loop.last }}{% endfor %}
{%- endmacro %}

{#- The target has no alias: Snowflake's grammar for UPDATE and DELETE knows none. -#}
{% macro delete_matching(target, work, columns) -%}
  delete from {{ target }} using {{ work }} as w where {{ agree(target.identifier, 'w', columns) }}
{%- endmacro %}
