{#-
  An entity without us: the statements of its models as data, for whoever runs them in our stead, such as a task of the warehouse.
  They are those of the materializations, over the same tables and the same marks of what has been consumed: whatever they have
  taken we find taken, and the other way about. Nobody looks whether a batch takes something back, or brings an event twice:
  every step is taken, which is always right and now and then for nothing.

  JSON: the models in their order, each with `model`; `batches`, the query for the batches to take; `steps`, the work tables, the first of
  them for those batches; `each`, if not null: for each row of the query `of`, in the order of its columns feed and event_time, `do`, in which
  they are `:judged_feed` and `:judged_at`; `then`, further work tables; `writes`, of one transaction.
-#}
{% macro entity_alone(entity_name) %}
  {%- set entity = c360.entity(entity_name) -%}
  {%- set absences = [absences_alone(entity)] if not execute or absence_feeds(entity_name) | length > 0 else [] -%}
  {%- do return(tojson([rows_alone(entity)] + absences + [log_alone(entity)])) -%}
{% endmacro %}

{% macro rows_alone(entity) %}
  {%- set rows = ref(entity.name ~ '_rows') -%}
  {%- set node = graph.nodes.values() | selectattr('name', 'equalto', rows.identifier) | first if execute else {'config': {'unique_key': []}} -%}
  {#- Of its own feeds alone: a batch of one that it does not know yet is left to those who do. -#}
  {%- do return(alone(rows, staged_batches(declared_feeds(entity.name) | map(attribute='name') | list),
    [work_step(rows.identifier ~ '__rows', entity_rows(entity.name))],
    [assert_declaration(ref(entity.name ~ '_log'), entity)] + by_batch_write(rows, entity_rows_columns(entity), node.config.unique_key))) -%}
{% endmacro %}

{% macro absences_alone(entity) %}
  {%- set table = ref(entity.name ~ '_absences') -%}
  {%- set snapshots = table.incorporate(path={'identifier': entity.name ~ '_snapshots'}) -%}
  {%- do return(absences_told(entity, table, snapshots, absence_rows(entity.name, ref(entity.name ~ '_rows'), ref('superseded_objects')))) -%}
{% endmacro %}

{% macro absences_told(entity, table, snapshots, stream) %}
  {%- set work = table.identifier -%}
  {%- set feeds = absence_feeds(entity.name) -%}
  {%- set steps = absence_steps(entity, feeds, work, snapshots, stream) -%}
  {%- do return(alone(table, consumed_by(entity.name ~ '_rows'), steps.gather, absence_write(entity, work, table, snapshots),
    {'of': steps.each, 'do': absence_verdict(entity, feeds, work, snapshots, ':judged_feed', ':judged_at')}, steps.settle)) -%}
{% endmacro %}

{% macro log_alone(entity) %}
  {%- set log = ref(entity.name ~ '_log') -%}
  {%- set beside = {} -%}
  {%- for companion in ['', '_ties', '_changes'] -%}
    {%- do beside.update({companion: log.incorporate(path={'identifier': entity.name ~ companion})}) -%}
  {%- endfor -%}
  {%- set stream = 'select * from ' ~ ref(entity.name ~ '_events') -%}
  {%- set steps = scd2_steps(entity, log, stream, true) -%}
  {%- do return(alone(log, scd2_batches(stream, entity), steps.gather + steps.settle + steps.fold,
    [assert_declaration(log, entity)] + scd2_write(entity, log, beside[''], beside['_ties'], beside['_changes'], true))) -%}
{% endmacro %}

{% macro alone(relation, available, steps, writes, each=none, then=[]) %}
  {%- set batches = unmarked_batches(relation, available) -%}
  {%- do return({
    'model': relation.identifier, 'batches': batches,
    'steps': [new_work_table(relation.identifier ~ '__batches', batches)] + steps_alone(steps), 'each': each, 'then': steps_alone(then),
    'writes': claim_batches(relation) + writes + [mark_batches(relation)],
  }) -%}
{% endmacro %}

{#-
  While a model is built: its statements for the next time, told to who has asked for them (C360_TELL_ALONE). They hold for any
  batch that finds the tables there; `unless`, a query, has a row where they do not, once the steps are taken: then `otherwise` does.
-#}
{% macro tell_alone(told, unless=none, otherwise=none) %}
  {%- do told.update({'unless': unless, 'otherwise': otherwise}) -%}
  {%- do log('alone: ' ~ tojson(told), info=true) -%}
{% endmacro %}

{% macro is_told() %}{% do return(env_var('C360_TELL_ALONE', '') != '') %}{% endmacro %}

{% macro steps_alone(steps) %}
  {%- set made = [] -%}
  {%- for step in steps -%}
    {%- if step.name is none %}{% do made.append(step.sql) -%}
    {%- elif step.numbered %}{% do made.extend(new_numbered_work_table(step.name, step.sql)) -%}
    {%- else %}{% do made.append(new_work_table(step.name, step.sql)) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- do return(made) -%}
{% endmacro %}

{#- Fails where the log was made for another declaration than the statements. -#}
{% macro assert_declaration(log, entity) -%}
  select case when max(declaration) <> {{ literal(tojson(declared_now(entity), sort_keys=true)) }}
    then cast('{{ log.identifier }} was made for another declaration, connection to it: make what merges it anew ' || count(*) as int) end
  from {{ declarations(log) }} where model = '{{ log.identifier }}'
{%- endmacro %}
