{#-
  Materialization `by_change`: an aggregate that is refreshed where what it is made of changed, and nowhere else.

  config: `grain`, the columns that a row of it stands for; `upstream`, the model of materialization `latest` whose log says
  what changed. The model's SQL takes the rows for which `{{ is_touched('alias') }}` holds. No look-back window: a row that
  left takes its old grain with it, because the log still has it.
-#}
{% materialization by_change, default %}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set grain = config.require('grain') -%}
  {%- set upstream = config.require('upstream') -%}
  {%- set work = this.identifier ~ '__rows' -%}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {%- do ensure_consumed_batches(this) -%}
  {%- set existing = load_cached_relation(this) -%}
  {%- set is_new = existing is none or should_full_refresh() -%}
  {%- if is_new %}{% do forget_batches(this) %}{% endif -%}
  {%- set count_batches = take_new_batches(this, consumed_upstream(upstream)) -%}

  {%- if count_batches > 0 or is_new -%}
    {%- do work_table(this.identifier ~ '__touched', "
      select distinct " ~ grain | join(', ') ~ " from " ~ relation_of(upstream) ~ "
      where _batch in (select batch from " ~ this.identifier ~ "__batches)
        or _ended_batch in (select batch from " ~ this.identifier ~ "__batches)") -%}
    {%- do work_table(work, sql) -%}
  {%- endif -%}
  {%- if is_new -%}
    {%- if existing is not none and existing.type != 'table' %}{% do adapter.drop_relation(existing) %}{% endif -%}
    {%- call statement('create', auto_begin=False) %}
      create or replace table {{ this }} as select * from {{ work }} where false
    {% endcall -%}
  {%- endif -%}

  {%- if count_batches > 0 -%}
    {%- do in_one_transaction([
      delete_matching(this, this.identifier ~ '__touched', grain),
      "insert into " ~ this ~ " select * from " ~ work,
      mark_batches(this),
    ]) -%}
  {%- else -%}
    {%- call noop_statement('main', 'nothing new') %}{% endcall -%}
  {%- endif -%}

  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {%- do persist_docs(target_relation, model) -%}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- Inside a `by_change` model: does the row of `alias` belong to a grain that changed? -#}
{% macro is_touched(alias) -%}
  exists (select 1 from {{ this.identifier }}__touched as touched where {{ agree(alias, 'touched', config.require('grain')) }})
{%- endmacro %}

{#- The relation of a model that this one depends on, by its name. -#}
{% macro relation_of(name) %}
  {%- for id in model.depends_on.nodes if id.startswith('model.') and graph.nodes[id].name == name -%}
    {%- set node = graph.nodes[id] -%}
    {%- do return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) -%}
  {%- endfor -%}
  {%- do exceptions.raise_compiler_error(model.name ~ ' names ' ~ name ~ ' as its upstream, and does not read it') -%}
{% endmacro %}

{#- The batches that a model this one depends on has consumed. -#}
{% macro consumed_upstream(name) -%}
  select batch from {{ consumed_batches(relation_of(name)) }} where model = '{{ name }}'
{%- endmacro %}
