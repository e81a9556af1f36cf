{#-
  Materialization `by_change`: a table that is refreshed where what it is made of changed, and nowhere else.

  config:
    grain     the columns that a row of it stands for; nulls are values
    upstream  the models, one or a list, whose runs say what changed: of materialization `scd2`, `latest` or `by_change`
    touched   the macro that gives the query for the grains that the upstreams' new batches touch, `{{ new_of(upstream) }}`
              of each (macros/touched.sql). Without it the grain's columns stand in the upstream's log (`latest`) or its changes
    keep_together  columns by whose values most of its readers take rows, such as a day: see new_table
    carries   further columns by which what is made of this table has to be refreshed, if anything is
    silent    columns that nothing of that reads: a row that changed in them alone is no change

  The model's SQL takes the rows for which `{{ is_touched('alias') }}` holds. No look-back window: what a row was before and what
  it is now are both in the changes of its upstream. A table with `carries` has a companion `<model>_changes`: the grain and
  the carried columns of every row that a run took away or brought and that is not the same before and after, and `batch`.
-#}
{% materialization by_change, default %}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set grain = config.require('grain') -%}
  {%- set carries = config.get('carries') -%}
  {%- set work = this.identifier ~ '__rows' -%}
  {%- set changes = api.Relation.create(database=this.database, schema=this.schema, identifier=this.identifier ~ '_changes', type='table') -%}

  {%- do begin_node() -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {%- do ensure_consumed_batches(this) -%}
  {%- set existing = load_cached_relation(this) -%}
  {%- set is_new = existing is none or should_full_refresh() or (carries is not none and load_cached_relation(changes) is none) -%}
  {%- if is_new %}{% do forget_batches(this) %}{% endif -%}
  {%- set available = upstream_batches(config.require('upstream')) -%}
  {%- set count_batches = take_new_batches(this, available) -%}

  {%- set nulls = [false] -%}
  {%- set without_nulls = sql | replace(' is not distinct from touched.', ' = touched.') -%}
  {%- set null_grains = 'select 1 from ' ~ this.identifier ~ '__touched where ' ~ (grain | join(' is null or ')) ~ ' is null limit 1' -%}
  {%- if count_batches > 0 or is_new -%}
    {%- do work_table(this.identifier ~ '__touched', touched_grains(grain)) -%}
    {%- do nulls.append(run_query(null_grains) | length > 0) -%}
    {%- do work_table(work, sql if nulls[-1] else without_nulls) -%}
  {%- endif -%}
  {%- if is_new -%}
    {%- if existing is not none and existing.type != 'table' %}{% do adapter.drop_relation(existing) %}{% endif -%}
    {%- call statement('create', auto_begin=False) %}
      {{ new_table(this, config.get('keep_together')) }} as select * from {{ work }} where false
    {% endcall -%}
    {%- do mask_personal(this) -%}
    {%- if carries is not none -%}
      {%- call statement('create_changes', auto_begin=False) %}
        {{ new_table(changes) }} as
        select {{ (grain + carries) | join(', ') }}, cast('' as varchar) as batch from {{ work }} where false
      {% endcall -%}
      {%- do mask_personal(changes) -%}
    {%- endif -%}
  {%- endif -%}

  {%- if count_batches > 0 -%}
    {%- if find_touched(this, grain, nulls[-1]) %}{% do begin_reading() %}{% endif -%}
    {%- do take_steps(find_touched(this, grain, nulls[-1])) -%}
    {%- do write_batches(this, by_change_write(this, changes, grain, carries, work, nulls[-1])) -%}
  {%- else -%}
    {%- call noop_statement('main', 'nothing new') %}{% endcall -%}
  {%- endif -%}
  {%- if is_told() -%}
    {%- set touched = work_step(this.identifier ~ '__touched', touched_grains(grain)) -%}
    {%- set told = {} -%}
    {%- for with_nulls in [false, true] -%}
      {%- do told.update({with_nulls: alone(this, available, [touched, work_step(work, sql if with_nulls else without_nulls)],
        steps_alone(find_touched(this, grain, with_nulls)) + by_change_write(this, changes, grain, carries, work, with_nulls))}) -%}
    {%- endfor -%}
    {%- do tell_alone(told[false], null_grains, told[true]) -%}
  {%- endif -%}

  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {%- do persist_docs(target_relation, model) -%}
  {{ return({'relations': [target_relation] + ([changes] if carries is not none else [])}) }}
{% endmaterialization %}

{#- The statements of the one transaction. -#}
{% macro by_change_write(relation, changes, grain, carries, work, nulls) %}
  {%- set dml = [changes_of_rows(changes, grain, carries, work, nulls)] if carries is not none else [] -%}
  {%- do return(dml + [delete_touched(relation, grain, nulls), "insert into " ~ relation ~ " select * from " ~ work]) -%}
{% endmacro %}

{#- Of each upstream the batches it has consumed, with its name before them. -#}
{% macro upstream_batches(upstream) -%}
  {%- for name in upstreams(upstream) %}
  select '{{ name }}:' || batch as batch from ({{ consumed_upstream(name) }}) as consumed
  {{- ' union all' if not loop.last }}
  {%- endfor -%}
{%- endmacro %}

{% macro upstreams(upstream) %}{% do return([upstream] if upstream is string else upstream) %}{% endmacro %}

{#- Of one upstream the batches that are new. -#}
{% macro new_of(name) -%}
  (select substr(batch, {{ name | length + 2 }}) from {{ this.identifier }}__batches where batch like '{{ name }}:%')
{%- endmacro %}

{#- The grains that the new batches touch. -#}
{% macro touched_grains(grain) -%}
  select distinct {{ grain | join(', ') }} from (
  {%- if config.get('touched') -%}
    {{ context[config.get('touched')]() }}
  {%- else -%}
    {%- for name in upstreams(config.require('upstream')) %}
    select {{ grain | join(', ') }} from ({{ changed_rows(name) }}) as changed
    {{- ' union all' if not loop.last }}
    {%- endfor -%}
  {%- endif -%}
  ) as touched
{%- endmacro %}

{#-
  Of an upstream what its new batches changed: rows of its log, old values and new ones, or of its changes. Rows may come twice.
  Of a log it is two questions: with one, by `or`, an engine looks at every row there is.
-#}
{% macro changed_rows(name) -%}
  {%- set node = node_of(name) -%}
  {%- if node.config.materialized == 'latest' -%}
    select * from {{ relation_of(name) }}
    where _batch in {{ new_of(name) }}
    union all
    select * from {{ relation_of(name) }}
    where _ended_batch in {{ new_of(name) }}
  {%- else -%}
    {%- set of = node.config.meta.entity.name if node.config.materialized == 'scd2' else name -%}
    select * from {{ api.Relation.create(database=node.database, schema=node.schema, identifier=of ~ '_changes') }}
    where batch in {{ new_of(name) }}
  {%- endif -%}
{%- endmacro %}

{#- What the rows were that go, and what those are that come; of a row that was made anew as it was, nothing. -#}
{% macro changes_of_rows(changes, grain, carries, work, nulls) -%}
  {%- set columns = adapter.get_columns_in_relation(this) | map(attribute='name') | map('lower') | reject('in', config.get('silent', [])) | list -%}
  {%- set came = 'select ' ~ (columns | join(', ')) ~ ' from ' ~ work -%}
  {%- set went = touched_rows(this, columns, grain, nulls) %}
  insert into {{ changes }}
  select distinct {{ (grain + carries) | join(', ') }}, newest.batch
  from (
    select * from ({{ went }} except {{ came }}) as gone
    union all
    select * from ({{ came }} except {{ went }}) as brought
  ) as changed
  cross join (select max(batch) as batch from {{ this.identifier }}__batches) as newest
{%- endmacro %}

{#-
  Inside a `by_change` model: does the row of `alias` belong to a grain that changed? Where no grain that changed has a null,
  the materialization asks for equality instead: rows that are nothing like it are left out while they are read.
-#}
{% macro is_touched(alias) -%}
  exists (select 1 from {{ this.identifier }}__touched as touched where {{ same_values(alias, 'touched', config.require('grain')) }})
{%- endmacro %}

{#- Two rows agree on the grain; nulls are values, if there are any. -#}
{% macro same_grain(left, right, grain, nulls) -%}
  {{ same_values(left, right, grain) if nulls else agree(left, right, grain) }}
{%- endmacro %}

{#- A model that this one depends on, by its name, and its relation. -#}
{% macro node_of(name) %}
  {%- for id in model.depends_on.nodes if id.startswith('model.') and graph.nodes[id].name == name -%}
    {%- do return(graph.nodes[id]) -%}
  {%- endfor -%}
  {%- do exceptions.raise_compiler_error(model.name ~ ' names ' ~ name ~ ' as its upstream, and does not read it') -%}
{% endmacro %}
{% macro relation_of(name) %}
  {%- set node = node_of(name) -%}
  {%- do return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) -%}
{% endmacro %}

{#- The batches that a model this one depends on has consumed. -#}
{% macro consumed_upstream(name) -%}
  select batch from {{ consumed_batches(relation_of(name)) }} where model = '{{ name }}'
{%- endmacro %}
