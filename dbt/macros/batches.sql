{#-
  What has been consumed. Each layer takes the batches that the layer above has and it has not, and marks them in the
  transaction that writes their rows: `<schema>.consumed_batches (model, batch)`. So a run that dies anywhere is
  finished by the next one, and no clock or cursor is trusted.
-#}

{% macro consumed_batches(relation) %}
  {%- do return(api.Relation.create(database=relation.database, schema=relation.schema, identifier='consumed_batches')) -%}
{% endmacro %}

{#- Makes the table of marks if there is none. -#}
{% macro ensure_consumed_batches(relation) %}
  {%- if load_cached_relation(consumed_batches(relation)) is none -%}
    {%- call statement('marks', auto_begin=False) %}
      create table if not exists {{ consumed_batches(relation) }} (model varchar not null, batch varchar not null)
    {% endcall %}
  {%- endif -%}
  {%- do ensure_turn(relation) -%}
{% endmacro %}

{#- Those of `available` (a query with one column, batch) that carry no mark. Few batches have many rows: each is asked about once. -#}
{% macro unmarked_batches(relation, available) -%}
  select batch from (select batch from ({{ available }}) as available group by batch) as available
  where batch is not null and batch not in (
    select batch from {{ consumed_batches(relation) }} where model = '{{ relation.identifier }}'
  )
{%- endmacro %}

{#- They become the work table `<model>__batches`; how many there are. -#}
{% macro take_new_batches(relation, available) %}
  {%- do work_table(relation.identifier ~ '__batches', unmarked_batches(relation, available)) -%}
  {%- do return(run_query("select count(*) from " ~ relation.identifier ~ "__batches").rows[0][0]) -%}
{% endmacro %}

{#- Writes what the batches come to, and their marks: all of it or nothing, and nobody else for the same batches. -#}
{% macro write_batches(relation, dml) %}
  {%- do in_one_transaction(claim_batches(relation) + dml + [mark_batches(relation)]) -%}
{% endmacro %}

{% macro mark_batches(relation) -%}
  insert into {{ consumed_batches(relation) }} (model, batch)
  select '{{ relation.identifier }}', batch from {{ relation.identifier }}__batches
{%- endmacro %}

{% macro forget_batches(relation) %}
  {%- call statement('forget', auto_begin=False) %}
    delete from {{ consumed_batches(relation) }} where model = '{{ relation.identifier }}'
  {% endcall %}
{% endmacro %}

{#- Every batch that staging holds, or those of some feeds: loads, and decisions on refused rows. -#}
{% macro staged_batches(feeds=none) -%}
  {%- set chosen = " where feed in ('" ~ (feeds | join("', '")) ~ "')" if feeds is not none else '' -%}
  select batch from {{ source('staging', 'object_ledger') }}{{ chosen }}
  union all
  select batch from {{ source('staging', 'quarantine_decisions') }}{{ chosen }}
{%- endmacro %}

{#-
  The query for the batches that another model has consumed; null if there is no such model. Staging may grow while models are
  built: one that reads what others made of a batch takes it after them, or it would mark what it has not seen.
-#}
{% macro consumed_by(name) %}
  {%- for node in graph.nodes.values() if name and node.resource_type == 'model' and node.name == name -%}
    {%- set relation = api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias) -%}
    {%- do return("select batch from " ~ consumed_batches(relation) ~ " where model = '" ~ node.alias ~ "'") -%}
  {%- endfor -%}
{% endmacro %}

{#- The models that make an entity's rows of a batch; absences follow only where a feed is told by them. -#}
{% macro makers_of(entity_name) %}
  {%- do return([entity_name ~ '_rows'] + ([entity_name ~ '_absences'] if absence_feeds(entity_name) | length > 0 else [])) -%}
{% endmacro %}

{#- The query for the batches that all of some models have consumed. -#}
{% macro consumed_by_all(names) %}
  {%- set found = [] -%}
  {%- for name in names -%}
    {%- do found.append(consumed_by(name) if loop.first else 'batch in (' ~ consumed_by(name) ~ ')') -%}
  {%- endfor -%}
  {%- do return(found | join(' and ')) -%}
{% endmacro %}

{#-
  The query for the batches of which some entities' rows and absences are made. A run leaves out an entity that has nothing new: a
  batch of other feeds need not have gone through its models.
-#}
{% macro made_of_entities(names) %}
  {%- set made, waits = [], [] -%}
  {%- for name in names -%}
    {%- set consumed = consumed_by_all(makers_of(name)) -%}
    {%- set feeds = declared_feeds(name) | map(attribute='name') | join("', '") -%}
    {%- do made.append(consumed) -%}
    {%- set of_feeds = [] -%}
    {%- for register in ['object_ledger', 'quarantine_decisions'] -%}
      {%- do of_feeds.append('select batch from ' ~ staged(register) ~ " where feed in ('" ~ feeds ~ "')") -%}
    {%- endfor -%}
    {%- do waits.append('(batch in (' ~ consumed ~ ') or batch not in (' ~ (of_feeds | join(' union all ')) ~ '))') -%}
  {%- endfor -%}
  {%- do return('select batch from (' ~ (made | join(' union ')) ~ ') as made where ' ~ (waits | join(' and '))) -%}
{% endmacro %}

{#- The work table of the batches that a `by_batch` model has to take now; of the one it stands in, if none is named. -#}
{% macro new_batches(model_name=none) %}{{ model_name or this.identifier }}__batches{% endmacro %}

{#- A step on the way to what a transaction writes: a work table, or a change to one. As data, so that who runs it may choose how. -#}
{% macro work_step(name, sql, numbered=false) %}{% do return({'name': name, 'sql': sql, 'numbered': numbered}) %}{% endmacro %}
{% macro change_step(sql) %}{% do return({'name': none, 'sql': sql}) %}{% endmacro %}
{% macro take_steps(steps) %}
  {%- for step in steps -%}
    {%- if step.name is none %}{% call statement('step', auto_begin=False) %}{{ step.sql }}{% endcall -%}
    {%- elif step.numbered %}{% do numbered_work_table(step.name, step.sql) -%}
    {%- else %}{% do work_table(step.name, step.sql) -%}
    {%- endif -%}
  {%- endfor -%}
{% endmacro %}

{#-
  Materialization `by_batch`: a table that takes each staged batch once.
  The model's SQL selects the rows of `{{ new_batches() }}` with the columns `_batch` (the batch that a row comes with)
  and, if `unique_key` is set, rows of former batches equal in it make way (a replayed row stands once), except those
  that are `final`, a condition on them: these stand, and the new ones are left out. With `final` comes `record`, the columns
  of what is replayed as one: what is not final of a record makes way for all that now comes of it.
  With `after`, a model that makes the rows which this one reads, it takes what that one has taken, and nothing that was staged since;
  with `of`, entities whose events it reads, what all their rows and absences have.
  Rows of a batch that is taken again (its mark was lost in a rebuild) are replaced, never added to.
-#}
{% materialization by_batch, default %}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set unique_key = config.get('unique_key', []) -%}
  {%- set final = config.get('final') -%}
  {%- set work = this.identifier ~ '__rows' -%}

  {%- do begin_node() -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {%- do ensure_consumed_batches(this) -%}
  {%- if should_full_refresh() %}{% do forget_batches(this) %}{% endif -%}
  {%- set existing = load_cached_relation(this) -%}
  {%- set available = made_of_entities(config.get('of')) if config.get('of') else consumed_by(config.get('after')) or staged_batches() -%}
  {%- set count_batches = take_new_batches(this, available) -%}

  {%- if count_batches > 0 or existing is none -%}
    {%- do work_table(work, sql) -%}
  {%- endif -%}
  {%- if existing is none or should_full_refresh() -%}
    {%- if existing is not none and existing.type != 'table' %}{% do adapter.drop_relation(existing) %}{% endif -%}
    {%- call statement('create', auto_begin=False) %}
      {{ new_table(this) }} as select * from {{ work }} where false
    {% endcall -%}
    {%- do mask_personal(this) -%}
  {%- endif -%}

  {%- if count_batches > 0 -%}
    {%- set dml = by_batch_write(this, adapter.get_columns_in_relation(this) | map(attribute='quoted') | list, unique_key, final) -%}
    {%- do write_batches(this, dml) -%}
  {%- else -%}
    {%- call noop_statement('main', 'nothing new') %}{% endcall -%}
  {%- endif -%}
  {#- What a table that is made begins with is not what it goes on with. -#}
  {%- if is_told() and existing is not none and not should_full_refresh() -%}
    {%- set columns = adapter.get_columns_in_relation(this) | map(attribute='quoted') | list -%}
    {%- do tell_alone(alone(this, available, [work_step(work, sql)], by_batch_write(this, columns, unique_key, final))) -%}
  {%- endif -%}

  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {%- do persist_docs(target_relation, model) -%}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- The statements that put the work table's rows into the table, in its transaction. -#}
{% macro by_batch_write(relation, columns, unique_key, final=none) %}
  {%- set work = relation.identifier ~ '__rows' -%}
  {%- set listed = columns | join(', ') -%}
  {%- set dml = ["delete from " ~ relation ~ " where _batch in (select batch from " ~ relation.identifier ~ "__batches)"] -%}
  {%- if final -%}
    {%- set record = config.require('record') -%}
    {%- do dml.append(
      "delete from " ~ work ~ " using (select * from " ~ relation ~ " where " ~ final ~ ") as w where " ~ agree(work, 'w', unique_key)) -%}
    {%- do dml.append(
      delete_matching(relation, "(select distinct " ~ record | join(', ') ~ " from " ~ work ~ ")", record) ~ " and not (" ~ final ~ ")") -%}
  {%- elif unique_key -%}
    {%- do dml.append(delete_matching(relation, work, unique_key)) -%}
  {%- endif -%}
  {%- do return(dml + ["insert into " ~ relation ~ " (" ~ listed ~ ") select " ~ listed ~ " from " ~ work]) -%}
{% endmacro %}
