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

{#- A declared type as the engine has it: a bare timestamp is what an account says. -#}
{% macro engine_type(type) %}{% do return(timestamp_type() if type == 'timestamp' else type) %}{% endmacro %}

{% macro minutes_earlier(instant, minutes) %}
  {{- return(adapter.dispatch('minutes_earlier', 'c360')(instant, minutes)) -}}
{% endmacro %}
{% macro duckdb__minutes_earlier(instant, minutes) %}({{ instant }} - to_minutes({{ minutes }})){% endmacro %}
{% macro snowflake__minutes_earlier(instant, minutes) %}dateadd(minute, -({{ minutes }}), {{ instant }}){% endmacro %}

{#- Of numbers: microseconds and days since the start of 1970. -#}
{% macro instant_of_microseconds(number) %}{{ return(adapter.dispatch('instant_of_microseconds', 'c360')(number)) }}{% endmacro %}
{% macro duckdb__instant_of_microseconds(number) %}make_timestamp({{ number }}){% endmacro %}
{% macro snowflake__instant_of_microseconds(number) %}to_timestamp_ntz({{ number }}, 6){% endmacro %}
{% macro date_of_days(number) %}{{ return(adapter.dispatch('date_of_days', 'c360')(number)) }}{% endmacro %}
{% macro duckdb__date_of_days(number) %}(date '1970-01-01' + {{ number }}){% endmacro %}
{% macro snowflake__date_of_days(number) %}dateadd(day, {{ number }}, to_date('1970-01-01')){% endmacro %}

{#- The clock, for tests alone: no table may depend on it. -#}
{% macro utc_now() %}{{ return(adapter.dispatch('utc_now', 'c360')()) }}{% endmacro %}
{% macro duckdb__utc_now() %}timezone('UTC', current_timestamp){% endmacro %}
{% macro snowflake__utc_now() %}sysdate(){% endmacro %}

{#- 1 for Monday to 7; the first day of its month. -#}
{% macro iso_weekday(day) %}{{ return(adapter.dispatch('iso_weekday', 'c360')(day)) }}{% endmacro %}
{% macro duckdb__iso_weekday(day) %}cast(isodow({{ day }}) as integer){% endmacro %}
{% macro snowflake__iso_weekday(day) %}dayofweekiso({{ day }}){% endmacro %}
{% macro month_of(day) %}cast(date_trunc('month', {{ day }}) as date){% endmacro %}

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

{#- A text as it stands in a statement. -#}
{% macro literal(text) %}{{ return(adapter.dispatch('literal', 'c360')(text)) }}{% endmacro %}
{% macro duckdb__literal(text) %}'{{ text | replace("'", "''") }}'{% endmacro %}
{% macro snowflake__literal(text) %}'{{ text | replace("\\", "\\\\") | replace("'", "''") }}'{% endmacro %}

{% macro timestamp_text(value) %}{{ return(adapter.dispatch('timestamp_text', 'c360')(value)) }}{% endmacro %}
{% macro duckdb__timestamp_text(value) %}strftime({{ value }}, '%Y-%m-%dT%H:%M:%S.%fZ'){% endmacro %}
{#- Snowflake needs no cast; fakesnow heeds the format only where it can tell the type. -#}
{% macro snowflake__timestamp_text(value) -%}
  {%- set instant = "cast(" ~ value ~ " as timestamp_ntz)" -%}
  to_char({{ instant }}, 'YYYY-MM-DD') || 'T' || to_char({{ instant }}, 'HH24:MI:SS.FF6') || 'Z'
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
  A JSON document, read once, of which `fields` are taken as text, and of the array `array`, if one is named, the
  `line_fields` of each element. What is no such thing is null. A number comes as some text of the same double: DuckDB says 1.0, Snowflake 1.
-#}
{% macro json_document(payload, fields, array=none, line_fields=[]) %}
  {{- return(adapter.dispatch('json_document', 'c360')(payload, fields, array, line_fields)) -}}
{% endmacro %}
{% macro duckdb__json_document(payload, fields, array, line_fields) -%}
  {%- set line = {} -%}
  {%- for field in line_fields %}{% do line.update({field: 'VARCHAR'}) %}{% endfor -%}
  {%- set document = {array: [line]} if array else {} -%}
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

{#- The document within `{schema, payload}`, or the document itself. -#}
{% macro json_envelope(payload) %}{{ return(adapter.dispatch('json_envelope', 'c360')(payload)) }}{% endmacro %}
{% macro duckdb__json_envelope(payload) -%}
  case when json_exists({{ payload }}, '$.payload') then json_extract({{ payload }}, '$.payload') else cast({{ payload }} as json) end
{%- endmacro %}
{% macro snowflake__json_envelope(payload) -%}
  case when try_parse_json({{ payload }}):"payload" is not null then try_parse_json({{ payload }}):"payload" else try_parse_json({{ payload }}) end
{%- endmacro %}

{#- What stands at a path of a document, as text; null where nothing does, or null. -#}
{% macro json_at(document, path) %}{{ return(adapter.dispatch('json_at', 'c360')(document, path)) }}{% endmacro %}
{% macro duckdb__json_at(document, path) %}json_extract_string({{ document }}, '$."{{ path | join('"."') }}"'){% endmacro %}
{% macro snowflake__json_at(document, path) %}cast({{ document }}:"{{ path | join('":"') }}" as varchar){% endmacro %}

{% macro json_is_null_document(document) %}{{ return(adapter.dispatch('json_is_null_document', 'c360')(document)) }}{% endmacro %}
{% macro duckdb__json_is_null_document(document) %}json_type({{ document }}) = 'NULL'{% endmacro %}
{% macro snowflake__json_is_null_document(document) %}coalesce(to_json({{ document }}), 'null') = 'null'{% endmacro %}

{#- Aggregate: the texts as a JSON array, sorted. For texts that need no escaping: hashes, codes. -#}
{% macro sorted_json_array(text) %}{{ return(adapter.dispatch('sorted_json_array', 'c360')(text)) }}{% endmacro %}
{% macro duckdb__sorted_json_array(text) -%}
  '[' || coalesce(string_agg('"' || {{ text }} || '"', ',' order by {{ text }}), '') || ']'
{%- endmacro %}
{% macro snowflake__sorted_json_array(text) -%}
  '[' || coalesce(listagg('"' || {{ text }} || '"', ',') within group (order by {{ text }}), '') || ']'
{%- endmacro %}

{#- Window: the last value so far that is not null. -#}
{% macro last_given(value, window) %}{{ return(adapter.dispatch('last_given', 'c360')(value, window)) }}{% endmacro %}
{% macro duckdb__last_given(value, window) %}last_value({{ value }} ignore nulls) over ({{ window }}){% endmacro %}
{% macro snowflake__last_given(value, window) %}last_value({{ value }}) ignore nulls over ({{ window }}){% endmacro %}

{#-
  First thing of every node. On Snowflake dbt keeps a session for the next node, and a transaction in which a statement
  failed stays open in it: the next DDL would commit the half of it. And what is run is named, for who looks at the account.
-#}
{% macro begin_node() %}{{ return(adapter.dispatch('begin_node', 'c360')()) }}{% endmacro %}
{% macro duckdb__begin_node() %}{% endmacro %}
{% macro snowflake__begin_node() %}
  {%- set on = model.get('attached_node') -%}
  {%- set at = graph.nodes[on] if on in graph.nodes else model -%}
  {%- set tag = {'app': 'c360', 'run': env_var('C360_RUN', invocation_id), 'asset': at.schema ~ '/' ~ at.name} -%}
  {%- if model.resource_type == 'test' %}{% do tag.update({'check': model.name}) %}{% endif -%}
  {%- do run_query('rollback') -%}
  {#- An emulator, which is what one reaches without TLS, knows of no tags. -#}
  {%- if target.get('protocol', 'https') == 'https' -%}
    {%- do run_query("alter session set query_tag = " ~ literal(tojson(tag)) ~ " timezone = 'UTC' lock_timeout = 600"
      ~ " timestamp_ntz_output_format = 'YYYY-MM-DD HH24:MI:SS.FF6'") -%}
  {%- endif -%}
{% endmacro %}
{#- dbt's own materializations call these two. -#}
{% macro snowflake__set_query_tag() %}{% do begin_node() %}{% endmacro %}
{% macro snowflake__unset_query_tag(original_query_tag) %}{% endmacro %}

{#-
  What a table that staging can make again begins with. Snowflake keeps no second copy of such a table for a week, and keeps
  rows together by `cluster_by`, columns or none.
-#}
{% macro new_table(relation, cluster_by=none) %}{{ return(adapter.dispatch('new_table', 'c360')(relation, cluster_by)) }}{% endmacro %}
{% macro duckdb__new_table(relation, cluster_by) %}create or replace table {{ relation }}{% endmacro %}
{% macro snowflake__new_table(relation, cluster_by) -%}
  create or replace transient table {{ relation }}{{ ' cluster by (' ~ (cluster_by | join(', ')) ~ ')' if cluster_by }}
{%- endmacro %}

{#-
  Columns about persons of a table that was made anew, before it has a row: a tag, on which a policy hangs. Where nobody
  has made `governance` (c360 snowflake bootstrap), there is none. Every materialization that makes a table calls it.
-#}
{% macro mask_personal(relation) %}{{ return(adapter.dispatch('mask_personal', 'c360')(relation)) }}{% endmacro %}
{% macro duckdb__mask_personal(relation) %}{% endmacro %}
{% macro snowflake__mask_personal(relation) %}
  {%- set personal = personal_names() -%}
  {%- if adapter.get_relation(relation.database, 'governance', 'personal_columns') is not none -%}
    {%- for column in adapter.get_columns_in_relation(relation) | map(attribute='name') | map('lower') if column in personal -%}
      {%- do run_query('alter table ' ~ relation ~ ' modify column ' ~ column ~ " set tag " ~ relation.database
        ~ ".governance.personal = '" ~ personal[column] ~ "'") -%}
    {%- endfor -%}
  {%- endif -%}
{% endmacro %}

{#-
  Statements with which a transaction begins that takes the batches of `<model>__batches`: none other takes them. On DuckDB there
  is one writer. On Snowflake the update waits until another transaction on this schema's models has ended, and what
  follows fails if that one took a batch of ours.
-#}
{% macro claim_batches(relation) %}{{ return(adapter.dispatch('claim_batches', 'c360')(relation)) }}{% endmacro %}
{% macro duckdb__claim_batches(relation) %}{% do return([]) %}{% endmacro %}
{% macro snowflake__claim_batches(relation) %}
  {%- do return([
    "update " ~ turns(relation) ~ " set taken_at = current_timestamp()::timestamp_ntz where model = '" ~ relation.identifier ~ "'",
    "select case when count(*) > 0 then cast('another run has built " ~ relation.identifier ~ " meanwhile, connection to it: "
    ~ "run again ' || count(*) as int) end from " ~ consumed_batches(relation) ~ " where model = '" ~ relation.identifier
    ~ "' and batch in (select batch from " ~ relation.identifier ~ "__batches)",
  ]) -%}
{% endmacro %}
{% macro turns(relation) %}
  {%- do return(api.Relation.create(database=relation.database, schema=relation.schema, identifier='turns')) -%}
{% endmacro %}
{% macro ensure_turn(relation) %}{{ return(adapter.dispatch('ensure_turn', 'c360')(relation)) }}{% endmacro %}
{% macro duckdb__ensure_turn(relation) %}{% endmacro %}
{% macro snowflake__ensure_turn(relation) %}
  {%- do run_query('create table if not exists ' ~ turns(relation) ~ ' (model varchar not null, taken_at timestamp_ntz(6))') -%}
  {%- do run_query("insert into " ~ turns(relation) ~ " (model) select '" ~ relation.identifier ~ "' where not exists (select 1 from "
    ~ turns(relation) ~ " where model = '" ~ relation.identifier ~ "')") -%}
{% endmacro %}

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

{#-
  From here on rows keep their addresses: on DuckDB what follows is read in the transaction that will write. On Snowflake a
  work table would commit it, and there are no addresses.
-#}
{% macro begin_reading() %}{{ return(adapter.dispatch('begin_reading', 'c360')()) }}{% endmacro %}
{% macro duckdb__begin_reading() %}
  {%- call statement('begin_reading', auto_begin=True) %}select 1{% endcall -%}
{% endmacro %}
{% macro snowflake__begin_reading() %}{% endmacro %}

{#- Any number that tells the rows of a query apart. -#}
{% macro row_number_of_any() %}{{ return(adapter.dispatch('row_number_of_any', 'c360')()) }}{% endmacro %}
{% macro duckdb__row_number_of_any() %}row_number() over (){% endmacro %}
{% macro snowflake__row_number_of_any() %}row_number() over (order by 1){% endmacro %}

{#-
  A work table whose rows are told apart by `_id`, a number. DuckDB would count rows on one core alone, and numbers those
  of a table anyhow: there the table is `<name>_rows`, and its name a view that shows the number.
-#}
{% macro numbered_work_table(name, sql) %}
  {%- for made in new_numbered_work_table(name, sql) %}
    {%- call statement('numbered', auto_begin=False) %}{{ made }}{% endcall -%}
  {%- endfor -%}
{% endmacro %}
{% macro new_numbered_work_table(name, sql) %}{{ return(adapter.dispatch('new_numbered_work_table', 'c360')(name, sql)) }}{% endmacro %}
{% macro duckdb__new_numbered_work_table(name, sql) %}
  {%- do return([new_work_table(name ~ '_rows', sql),
    'create or replace temporary view ' ~ name ~ ' as select rowid as _id, * from ' ~ name ~ '_rows']) -%}
{% endmacro %}
{% macro snowflake__new_numbered_work_table(name, sql) %}{% do return([new_work_table(name, numbered(sql))]) %}{% endmacro %}
{% macro numbered(sql) %}select {{ row_number_of_any() }} as _id, unnumbered.* from ({{ sql }}) as unnumbered{% endmacro %}
{#- Changes to rows of it: `numbered_rows` is what to write to, `row_id` its number there. -#}
{% macro numbered_rows(name) %}{{ return(adapter.dispatch('numbered_rows', 'c360')(name)) }}{% endmacro %}
{% macro duckdb__numbered_rows(name) %}{{ return(name ~ '_rows') }}{% endmacro %}
{% macro snowflake__numbered_rows(name) %}{{ return(name) }}{% endmacro %}
{% macro row_id() %}{{ return(adapter.dispatch('row_id', 'c360')()) }}{% endmacro %}
{% macro duckdb__row_id() %}{{ return('rowid') }}{% endmacro %}
{% macro snowflake__row_id() %}{{ return('_id') }}{% endmacro %}

{#-
  Steps whose last, `<work>__stored`, holds the columns of the log's rows that are open or end at or after `since` of their key
  in `<work>__touched`, with a number below zero as `_id`, `since`, `_address` and `is_of_key`: a row of which it is false is none of
  them. Each key has one open row, and only where the change is not after it does any other count. On DuckDB open rows lie
  together (scd2_write) and are read at once; of the others, narrow columns find the few, a hash of the key among them, and their
  addresses fetch the rest: DuckDB reads a wide column of a whole table if a join filters it. Whether the hash spoke true is told
  and not asked, for the same reason.
-#}
{% macro steps_that_reach(log, work, key, columns) %}
  {{- return(adapter.dispatch('steps_that_reach', 'c360')(log, work, key, columns)) -}}
{% endmacro %}
{% macro duckdb__steps_that_reach(log, work, key, columns) %}
  {%- set row -%}
    -1 - log.rowid as _id, {{ 'log.' ~ (columns | join(', log.')) }}, touched.since, log.rowid as _address, {{ agree('log', 'touched', key) }} as is_of_key
  {%- endset -%}
  {%- set by_hash = log ~ ' as log inner join {} as touched on log.key_hash = ' ~ key_hash('touched', key) -%}
  {%- set opened -%}
    select {{ row }}
    from {{ by_hash.format(work ~ '__touched') }}
    where log.next_at is null
  {%- endset -%}
  {%- set late = '(select * from ' ~ work ~ '__opened where is_of_key and event_time >= since)' -%}
  {%- set stored -%}
    select * from {{ work }}__opened
    union all
    select {{ row }}
    from {{ log }} as log
    inner join (
      select log.rowid as _address, touched.{{ key | join(', touched.') }}, touched.since
      from {{ by_hash.format(late) }}
      where log.next_at >= touched.since
    ) as touched on log.rowid = touched._address
  {%- endset -%}
  {%- do return([work_step(work ~ '__opened', opened), work_step(work ~ '__stored', stored)]) -%}
{% endmacro %}
{% macro snowflake__steps_that_reach(log, work, key, columns) %}
  {%- set stored -%}
    select
      -{{ row_number_of_any() }} as _id,
      {{ 'log.' ~ (columns | join(', log.')) }}, touched.since, cast(null as bigint) as _address, true as is_of_key
    from {{ log }} as log
    inner join {{ work }}__touched as touched on {{ agree('log', 'touched', key) }}
    where log.next_at is null or log.next_at >= touched.since
  {%- endset -%}
  {%- do return([work_step(work ~ '__stored', stored)]) -%}
{% endmacro %}

{#-
  Columns of a log by which its rows are found, beside the key: DuckDB compares numbers several times faster than texts.
  Its hash may be another in another version; then the column is made anew.
-#}
{% macro found_by() %}{{ return(adapter.dispatch('found_by', 'c360')()) }}{% endmacro %}
{% macro duckdb__found_by() %}{% do return(['key_hash']) %}{% endmacro %}
{% macro snowflake__found_by() %}{% do return([]) %}{% endmacro %}
{% macro key_hash(alias, key) -%}hash({{ alias }}.{{ key | join(', ' ~ alias ~ '.') }}){%- endmacro %}
{% macro refresh_found_by(log, key) %}{{ return(adapter.dispatch('refresh_found_by', 'c360')(log, key)) }}{% endmacro %}
{% macro duckdb__refresh_found_by(log, key) %}
  {%- set here = key_hash(log.identifier, key) -%}
  {%- if run_query('select 1 from (select * from ' ~ log ~ ' limit 1) as ' ~ log.identifier ~ ' where key_hash <> ' ~ here) | length > 0 -%}
    {%- call statement('refresh_found_by', auto_begin=False) %}update {{ log }} set key_hash = {{ here }}{% endcall -%}
  {%- endif -%}
{% endmacro %}
{% macro snowflake__refresh_found_by(log, key) %}{% endmacro %}

{#-
  Rows of a `by_change` table whose grain changed: on DuckDB they are found once, by the grain alone, and known by their addresses
  from then on, in the transaction that writes. `nulls`: has one of the grains that changed a null? A list of work steps.
-#}
{% macro find_touched(relation, grain, nulls) %}{{ return(adapter.dispatch('find_touched', 'c360')(relation, grain, nulls)) }}{% endmacro %}
{% macro duckdb__find_touched(relation, grain, nulls) %}
  {%- do return([work_step(relation.identifier ~ '__found', 'select target.rowid as _address from ' ~ relation ~ ' as target where exists (select 1 from '
    ~ relation.identifier ~ '__touched as touched where ' ~ same_grain('target', 'touched', grain, nulls) ~ ')')]) -%}
{% endmacro %}
{% macro snowflake__find_touched(relation, grain, nulls) %}{% do return([]) %}{% endmacro %}
{% macro touched_rows(relation, columns, grain, nulls) %}
  {{- return(adapter.dispatch('touched_rows', 'c360')(relation, columns, grain, nulls)) -}}
{% endmacro %}
{% macro duckdb__touched_rows(relation, columns, grain, nulls) -%}
  select {{ 'target.' ~ (columns | join(', target.')) }}
  from {{ relation }} as target
  inner join {{ relation.identifier }}__found as found on target.rowid = found._address
{%- endmacro %}
{% macro snowflake__touched_rows(relation, columns, grain, nulls) -%}
  select {{ 'target.' ~ (columns | join(', target.')) }}
  from {{ relation }} as target
  inner join {{ relation.identifier }}__touched as touched on {{ same_grain('target', 'touched', grain, nulls) }}
{%- endmacro %}
{% macro delete_touched(relation, grain, nulls) %}{{ return(adapter.dispatch('delete_touched', 'c360')(relation, grain, nulls)) }}{% endmacro %}
{% macro duckdb__delete_touched(relation, grain, nulls) -%}
  delete from {{ relation }} using {{ relation.identifier }}__found as w where {{ relation.identifier }}.rowid = w._address
{%- endmacro %}
{% macro snowflake__delete_touched(relation, grain, nulls) -%}
  delete from {{ relation }} using {{ relation.identifier }}__touched as w where {{ same_grain(relation.identifier, 'w', grain, nulls) }}
{%- endmacro %}

{#-
  Changes to groups of columns, of rows that seldom change in more than one: DuckDB writes what is named, so each group by itself;
  Snowflake writes whole rows anew, so all at once.
-#}
{% macro apart(groups) %}{{ return(adapter.dispatch('apart', 'c360')(groups)) }}{% endmacro %}
{% macro duckdb__apart(groups) %}{% do return(groups) %}{% endmacro %}
{% macro snowflake__apart(groups) %}{% do return([groups | sum(start=[])]) %}{% endmacro %}

{#-
  Columns of a new, empty table whose texts stand as they are: digests. DuckDB would spend more on packing them to half their length than on all
  other columns, and unpacks thousands to read the few that a batch wants (at 10 M rows a third of a batch's reading).
-#}
{% macro keep_plain(relation, columns) %}{{ return(adapter.dispatch('keep_plain', 'c360')(relation, columns)) }}{% endmacro %}
{% macro duckdb__keep_plain(relation, columns) %}
  {%- call statement('keep_plain', auto_begin=False) %}
    {%- for column in columns %}
    alter table {{ relation }} drop column {{ column }};
    alter table {{ relation }} add column {{ column }} varchar using compression 'uncompressed';
    {%- endfor %}
  {% endcall -%}
{% endmacro %}
{% macro snowflake__keep_plain(relation, columns) %}{% endmacro %}

{#- The row of a table from which a work table's row was read. -#}
{% macro same_row(table, work, identity) %}{{ return(adapter.dispatch('same_row', 'c360')(table, work, identity)) }}{% endmacro %}
{% macro duckdb__same_row(table, work, identity) %}{{ table }}.rowid = {{ work }}._address{% endmacro %}
{% macro snowflake__same_row(table, work, identity) %}{{ agree(table, work, identity) }}{% endmacro %}

{#- A work table of this session. Unqualified, because a temporary table lives in the session, not in a schema of ours. -#}
{% macro work_table(name, sql) %}
  {%- call statement('work', auto_begin=False) %}{{ new_work_table(name, sql) }}{% endcall %}
{% endmacro %}
{% macro new_work_table(name, sql) %}create or replace temporary table {{ name }} as {{ sql }}{% endmacro %}

{#- Two rows agree on the columns, none of which is ever null. -#}
{% macro agree(left, right, columns) -%}
  {% for c in columns %}{{ left }}.{{ c }} = {{ right }}.{{ c }}{{ ' and ' if not loop.last }}{% endfor %}
{%- endmacro %}

{#- The same where columns may be null, which is a value like any other. -#}
{% macro same_values(left, right, columns) -%}
  {% for c in columns %}{{ left }}.{{ c }} is not distinct from {{ right }}.{{ c }}{{ ' and ' if not loop.last }}{% endfor %}
{%- endmacro %}

{#- The target has no alias: Snowflake's grammar for UPDATE and DELETE knows none. -#}
{% macro delete_matching(target, work, columns) -%}
  delete from {{ target }} using {{ work }} as w where {{ agree(target.identifier, 'w', columns) }}
{%- endmacro %}

{#- Within a table function, an argument: Snowflake would take its name for a column of the same name. -#}
{% macro argument(name) %}{{ return(adapter.dispatch('argument', 'c360')(name)) }}{% endmacro %}
{% macro duckdb__argument(name) %}cast(at_{{ name }} as timestamp){% endmacro %}
{% macro snowflake__argument(name) %}at_{{ name }}{% endmacro %}

{#-
  Makes a table function of timestamps; `columns` are those that it gives, each with its type, `variants` pairs of its
  arguments and what it is with these.
-#}
{% macro table_function(name, columns, variants) %}
  {{- return(adapter.dispatch('table_function', 'c360')(name, columns, variants)) -}}
{% endmacro %}
{% macro duckdb__table_function(name, columns, variants) %}
  {%- set written = [] -%}
  {%- for arguments, sql in variants -%}
    {%- do written.append('(at_' ~ (arguments | join(', at_')) ~ ') as table (' ~ sql ~ ')') -%}
  {%- endfor -%}
  {%- do run_query('create or replace macro ' ~ name ~ (written | join(', '))) -%}
{% endmacro %}
{% macro snowflake__table_function(name, columns, variants) %}
  {#- Nor has an emulator table functions in SQL. -#}
  {%- if target.get('protocol', 'https') == 'https' -%}
    {%- for arguments, sql in variants -%}
      {%- do run_query(snowflake_table_function(name, arguments, columns, sql)) -%}
    {%- endfor -%}
  {%- endif -%}
{% endmacro %}
{#- What it gives has to be of the types that it declares, to the digit. -#}
{% macro snowflake_table_function(name, arguments, columns, sql) %}
  {%- set given = [] -%}
  {%- for column in columns -%}
    {%- set name_of, type = column.split(' ', 1) -%}
    {%- do given.append('cast(' ~ name_of ~ ' as ' ~ type ~ ') as ' ~ name_of) -%}
  {%- endfor %}
  create or replace function {{ name }}(at_{{ arguments | join(' timestamp_ntz, at_') }} timestamp_ntz)
  returns table ({{ columns | join(', ') }})
  as $$select {{ given | join(', ') }} from ({{ sql }}) as given$$
{% endmacro %}

{#- The rows of a table function. -#}
{% macro rows_of(name, arguments) %}{{ return(adapter.dispatch('rows_of', 'c360')(name, arguments)) }}{% endmacro %}
{% macro duckdb__rows_of(name, arguments) %}{{ name }}({{ arguments | join(', ') }}){% endmacro %}
{% macro snowflake__rows_of(name, arguments) %}table({{ name }}({{ arguments | join(', ') }})){% endmacro %}
