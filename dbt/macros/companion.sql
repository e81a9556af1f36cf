{#-
  Materialization `companion`: a table that the log's model wrote. Its SQL says what the table holds, for readers
  and for the check that compares; it is not run. Without the log in the same selection the table would be passed off
  as fresh, so that is an error.
-#}
{% materialization companion, default %}
  {%- for id in model.depends_on.nodes if graph.nodes[id].config.materialized in ('scd2', 'latest', 'absences', 'by_change') and id not in selected_resources -%}
    {%- do exceptions.raise_compiler_error(model.name ~ ' is written by ' ~ id.split('.')[-1] ~ ': select that too') -%}
  {%- endfor -%}
  {%- do begin_node() -%}
  {%- call statement('main', auto_begin=False) %}select count(*) from {{ this }}{% endcall -%}
  {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmaterialization %}
