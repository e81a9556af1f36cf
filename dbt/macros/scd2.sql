{#-
  Materialization `scd2`: any stream of change events becomes the log of an entity, its current table and its ties; the
  history is a view on the log. The result is a function of the set of events alone: not of their order of arrival,
  their batches, or how often they came.

  The model's SQL is the stream, one row per copy of an event: the key columns, `event_time`, `position` (text that
  sorts, or null), `op` ('upsert', 'delete'), the attributes, `content` (see content_hash), `known_at`, the lineage
  `_feed, _key, _etag, _row`, `_batch` (with which it came) and `_retracted_by` (the batch that took it back, or null).
  `meta.entity` declares name, key, tracked and type 1 columns. If it says `partial: true`, or a feed does, there is `given`:
  which attributes the event gives, by name, as text of 1 and 0; null where it gives them all, and in a delete.

  The log keeps one row per distinct event, also no-ops, losers of an instant and deletes. Its marks:
    next_at       when the next winning event of the key comes; the row's own time for a loser of its instant
    version_from  start of the version that the row belongs to
    is_version    is it the last winning event of its version, whose row the history shows?
    change_type, ended_by
  The log of partial events holds them filled: attributes as they were after the event, `given` to tell what it stated.
  A batch reads, per touched key, only the rows that are open or reach to its earliest change: the predecessor and all
  that follow. They carry the marks over from before, so what lies earlier is never read.

  Work tables are made first (scd2_fold), then all DML is one transaction (scd2_write). Companions: `<entity>`, `<entity>_ties`,
  and `<entity>_changes`: which keys each run touched, so that what is made of them is refreshed for these alone.
-#}
{% materialization scd2, default %}
  {%- set entity = entity_of(model) -%}
  {%- set log = this.incorporate(type='table') -%}
  {%- set current = api.Relation.create(database=this.database, schema=this.schema, identifier=entity.name, type='table') -%}
  {%- set ties = api.Relation.create(database=this.database, schema=this.schema, identifier=entity.name ~ '_ties', type='table') -%}
  {%- set changes = api.Relation.create(database=this.database, schema=this.schema, identifier=entity.name ~ '_changes', type='table') -%}

  {%- do begin_node() -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {%- do ensure_consumed_batches(this) -%}
  {#- All, or none: a process may have died between making the one and the other. -#}
  {%- set anew = should_full_refresh() or load_cached_relation(this) is none
    or load_cached_relation(current) is none or load_cached_relation(ties) is none or load_cached_relation(changes) is none -%}
  {%- if anew -%}
    {%- do forget_batches(this) -%}
    {%- do scd2_make_tables(entity, log, current, ties, changes, sql) -%}
    {%- do keep_declaration(log, entity) -%}
  {%- else -%}
    {%- do scd2_same_declaration(entity, log) -%}
    {%- if declaration_kept(log) != tojson(declared_now(entity), sort_keys=true) %}{% do keep_declaration(log, entity) %}{% endif -%}
    {%- do refresh_found_by(log, entity.key) -%}
  {%- endif -%}

  {%- if take_new_batches(this, scd2_batches(sql, entity)) > 0 -%}
    {%- do begin_reading() -%}
    {%- set retracting = scd2_fold_batches(entity, log, sql, anew) -%}
    {%- do write_batches(this, scd2_write(entity, log, current, ties, changes, retracting, anew)) -%}
  {%- else -%}
    {%- call noop_statement('main', 'nothing new') %}{% endcall -%}
  {%- endif -%}
  {%- if is_told() -%}
    {%- set steps = scd2_steps(entity, log, sql, true) -%}
    {%- do tell_alone(alone(this, scd2_batches(sql, entity), steps.gather + steps.settle + steps.fold,
      scd2_write(entity, log, current, ties, changes, true))) -%}
  {%- endif -%}

  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {%- do persist_docs(log, model) -%}
  {{ return({'relations': [log, current, ties, changes]}) }}
{% endmaterialization %}

{#-
  The batches in the stream: those that bring rows and those that take some back. What takes back is known as soon as it is staged:
  of an entity that is made of feeds, batches count once its rows and absences are made of them.
-#}
{% macro scd2_batches(stream, entity) -%}
  select batch
  from (
    select _batch as batch from ({{ stream }}) as brought
    union all
    select _retracted_by as batch from ({{ stream }}) as taken_back where _retracted_by is not null
  ) as in_stream
  where true
  {%- for made in makers_of(entity.name) if consumed_by(made) %}
    and batch in ({{ consumed_by(made) }})
  {%- endfor %}
{%- endmacro %}

{% macro scd2_identity(entity) %}{% do return(entity.key + ['event_time', 'op', 'content']) %}{% endmacro %}

{#- What an event says of its version's start, and what the next event changes of it: of most stored rows the latter alone. -#}
{% macro scd2_starts() %}{% do return(['version_from', 'change_type']) %}{% endmacro %}
{% macro scd2_ends() %}{% do return(['next_at', 'is_version', 'ended_by']) %}{% endmacro %}
{% macro scd2_marks() %}{% do return(scd2_starts() + scd2_ends()) %}{% endmacro %}

{#- Tracked columns alone decide about versions; where they are all there is, and always given, the content says the same. -#}
{% macro scd2_keeps_state(entity) %}{% do return((entity.type1 | length > 0) or entity.partial) %}{% endmacro %}
{% macro scd2_state(entity) %}{% do return('state_hash' if scd2_keeps_state(entity) else 'content') %}{% endmacro %}
{% macro scd2_state_hash(entity) %}{{ content_hash(by_name(entity.tracked), entity.types) }}{% endmacro %}

{#- Columns of an event that others may change: what a partial event is filled with. -#}
{% macro scd2_moving(entity) %}{% do return((['given', 'state_hash'] + entity.attributes) if entity.partial else []) %}{% endmacro %}

{% macro scd2_lineage() %}{% do return(['_feed', '_key', '_etag', '_row', '_batch']) %}{% endmacro %}

{% macro scd2_log_columns(entity) %}
  {%- do return(scd2_identity(entity) + ['position', 'known_at'] + (['given'] if entity.partial else [])
    + (['state_hash'] if scd2_keeps_state(entity) else []) + entity.attributes + scd2_lineage() + found_by()) -%}
{% endmacro %}

{#- Empty tables of the right shape. -#}
{% macro scd2_make_tables(entity, log, current, ties, changes, stream) %}
  {%- for relation in [log, current, ties, changes] -%}
    {%- set existing = load_cached_relation(relation) -%}
    {%- if existing is not none %}{% do adapter.drop_relation(existing) %}{% endif -%}
  {%- endfor -%}
  {%- call statement('make_log', auto_begin=False) %}
    {{ new_table(log) }} as
    select
      {%- for column in scd2_log_columns(entity) %}
      {% if column == 'state_hash' %}cast(content as varchar) as state_hash
      {%- elif column == 'key_hash' %}{{ key_hash('stream', entity.key) }} as key_hash
      {%- else %}{{ column }}{% endif %},
      {%- endfor %}
      event_time as version_from,
      event_time as next_at,
      cast(true as boolean) as is_version,
      cast('' as varchar) as change_type,
      cast('' as varchar) as ended_by
    from ({{ stream }}) as stream
    where false
  {% endcall -%}
  {%- do keep_plain(log, ['content'] + (['state_hash'] if scd2_keeps_state(entity) else [])) -%}
  {%- call statement('make_current', auto_begin=False) %}
    {{ new_table(current) }} as
    select {{ (entity.key + entity.attributes) | join(', ') }}, version_from as valid_from from {{ log }} where false
  {% endcall -%}
  {%- do mask_personal(log) -%}
  {%- do mask_personal(current) -%}
  {%- call statement('make_ties', auto_begin=False) %}
    {{ new_table(ties) }} as
    select {{ entity.key | join(', ') }}, event_time, content as winner, content as losers, change_type as rule
    from {{ log }} where false
  {% endcall -%}
  {%- call statement('make_changes', auto_begin=False) %}
    {{ new_table(changes) }} as
    select {{ entity.key | join(', ') }}, event_time as since, _batch as batch from {{ log }} where false
  {% endcall -%}
{% endmacro %}

{#- A log made by another declaration is rebuilt by a person's word, not quietly. -#}
{% macro scd2_same_declaration(entity, log) %}
  {%- set kept = declaration_kept(log) -%}
  {%- set changes = changes_of_declaration(log, entity, kept) -%}
  {%- set declared = (scd2_log_columns(entity) + scd2_marks()) | sort -%}
  {%- set there = adapter.get_columns_in_relation(log) | map(attribute='name') | map('lower') | sort -%}
  {%- if changes | length > 0 or declared != there -%}
    {%- do exceptions.raise_compiler_error(
      log ~ ' was made for another declaration: '
      ~ (changes | join('; ') or 'its columns are ' ~ (there | join(', ')) ~ ' and should be ' ~ (declared | join(', ')))
      ~ '. See what that would change: c360 sync --plan --rebuild. Then do it: c360 sync --rebuild') -%}
  {%- endif -%}
{% endmacro %}
