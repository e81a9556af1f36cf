{#-
  What dbt does to every view and every test, in fewer statements: there are hundreds of both, and most of them take longer
  to be told than to be run.
-#}

{#- One statement; dbt would make another view, rename both and drop one. Snowflake's does it so already. -#}
{% materialization view, adapter='duckdb' %}
  {%- set there = load_cached_relation(this) -%}
  {%- set view = this.incorporate(type='view') -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}
  {%- if there is not none and not there.is_view %}{% do adapter.drop_relation(there) %}{% endif -%}
  {%- call statement('main') %}
    create or replace view {{ view }} as (
      {{ sql }}
    )
  {% endcall -%}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {%- do adapter.commit() -%}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [view]}) }}
{% endmaterialization %}

{#- Failing rows are kept where there are any; dbt would keep an empty table of every test that passes. -#}
{% materialization test, default %}
  {%- set failing = get_limit_subquery_sql(sql, config.get('limit')) -%}
  {%- call statement('main', fetch_result=True, auto_begin=False) -%}
    {{ get_test_sql(failing, config.get('fail_calc'), config.get('warn_if'), config.get('error_if'), limit=none) }}
  {%- endcall -%}
  {%- set relations = [] -%}
  {%- if should_store_failures() -%}
    {%- set kept = api.Relation.create(database=database, schema=schema, identifier=model['alias'], type='table') -%}
    {%- set there = load_cached_relation(kept) -%}
    {%- if there is not none %}{% do adapter.drop_relation(there) %}{% endif -%}
    {%- if load_result('main').table.rows[0][0] > 0 -%}
      {%- call statement('kept', auto_begin=False) %}{{ get_create_sql(kept, failing) }}{% endcall -%}
      {%- do relations.append(kept) -%}
    {%- endif -%}
  {%- endif -%}
  {{ return({'relations': relations}) }}
{% endmaterialization %}
