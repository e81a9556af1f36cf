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

{% macro try_typed(text, type) %}{{ return(adapter.dispatch('try_typed', 'c360')(text, type)) }}{% endmacro %}
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
