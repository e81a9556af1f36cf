{#-
  Materialization `latest`: copies of records become the one that counts per key, and the log of when it did. The newest
  object wins (last modified as first seen, then key); within an object the later row. The same bytes sent again under the
  same key are nothing new, so that a copy sent twice does not win over a correction.

  The model's SQL is the stream, one row per copy: the key columns, the attributes, `content` (see content_hash), the lineage
  `_feed, _key, _etag, _row, _loaded_batch`, `_last_modified` of its object, `_batch` (with which it came) and `_retracted_by`
  (the batch that took it back, or null). `meta.entity` declares name, key and attributes (as `tracked`).

  The log has one row per record as it counted: from `_batch` until `_ended_batch`, null while it stands. So what a run
  changed is the rows that carry its batches, old values and new ones alike, and what is made of the records is refreshed for
  these alone (materialization `by_change`). A copy of equal content changes nothing.

  Config `keep_together`: columns by whose values most of its readers take rows: see new_table.

  Companion `<entity>_replaced`: one row per content that another object's replaced, as it stood.
-#}
{% materialization latest, default %}
  {%- set entity = entity_of(model) -%}
  {%- set log = this.incorporate(type='table') -%}
  {%- set replaced = api.Relation.create(database=this.database, schema=this.schema, identifier=entity.name ~ '_replaced', type='table') -%}

  {%- do begin_node() -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {%- do ensure_consumed_batches(this) -%}
  {%- set is_new = should_full_refresh() or load_cached_relation(this) is none or load_cached_relation(replaced) is none -%}
  {%- if is_new -%}
    {%- do forget_batches(this) -%}
    {%- do latest_make_tables(entity, log, replaced, sql) -%}
  {%- endif -%}

  {%- set available = consumed_upstream(config.require('upstream')) -%}
  {%- if take_new_batches(this, available) > 0 -%}
    {%- do take_steps(latest_settle(entity, log, sql, is_new)) -%}
    {%- do write_batches(this, latest_write(entity, log, replaced)) -%}
  {%- else -%}
    {%- call noop_statement('main', 'nothing new') %}{% endcall -%}
  {%- endif -%}
  {%- if is_told() -%}
    {%- do tell_alone(alone(this, available, latest_settle(entity, log, sql, false), latest_write(entity, log, replaced))) -%}
  {%- endif -%}

  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {%- do persist_docs(log, model) -%}
  {{ return({'relations': [log, replaced]}) }}
{% endmaterialization %}

{% macro latest_lineage() %}{% do return(['_feed', '_key', '_etag', '_row', '_loaded_batch']) %}{% endmacro %}

{% macro latest_columns(entity) %}{% do return(entity.key + entity.attributes + ['content'] + latest_lineage()) %}{% endmacro %}

{#- Empty tables of the right shape. -#}
{% macro latest_make_tables(entity, log, replaced, stream) %}
  {%- for relation in [log, replaced] -%}
    {%- set existing = load_cached_relation(relation) -%}
    {%- if existing is not none %}{% do adapter.drop_relation(existing) %}{% endif -%}
  {%- endfor -%}
  {%- call statement('make_log', auto_begin=False) %}
    {{ new_table(log, config.get('keep_together')) }} as
    select {{ latest_columns(entity) | join(', ') }}, _batch, _batch as _ended_batch
    from ({{ stream }}) as stream
    where false
  {% endcall -%}
  {%- call statement('make_replaced', auto_begin=False) %}
    {{ new_table(replaced) }} as
    select {{ latest_columns(entity) | join(', ') }}, _key as winner_key from {{ log }} where false
  {% endcall -%}
  {%- do mask_personal(log) -%}
  {%- do mask_personal(replaced) -%}
{% endmacro %}

{#-
  Work tables: the keys of which a copy comes or goes, those of them that the log has, their copies, the one that counts first,
  and what goes on to stand. Most keys come for the first time: of the others alone more is read than the key.
-#}
{% macro latest_settle(entity, log, stream, is_new) %}
  {%- set work = log.identifier -%}
  {%- set key = entity.key | join(', ') -%}
  {%- set record = entity.key + ['content'] + latest_lineage() -%}
  {%- set batches = work ~ '__batches' -%}
  {%- set touched = work_step(work ~ '__touched', coming_or_going(key, '(' ~ stream ~ ')', batches)) -%}

  {%- set standing = work_step(work ~ '__standing', "
    select distinct " ~ 'touched.' ~ (entity.key | join(', touched.')) ~ "
    from " ~ log ~ " as log
    inner join " ~ work ~ "__touched as touched on " ~ agree('log', 'touched', entity.key) ~ "
    where log._ended_batch is null") -%}

  {#- Of a key that does not stand all that came before was taken back before. -#}
  {%- set copies -%}
    select stream.* from ({{ stream }}) as stream
    {%- if not is_new %}
    where _batch in (select batch from {{ batches }})
    union all
    select stream.* from ({{ stream }}) as stream
    inner join {{ work }}__standing as standing on {{ agree('stream', 'standing', entity.key) }}
    where stream._batch not in (select batch from {{ batches }})
    {%- endif %}
  {%- endset -%}
  {%- set ranked = work_step(work ~ '__copies', latest_ranked(entity, '(' ~ copies ~ ')')) -%}

  {#- What stands in the log and goes on to stand: the content counts, and the record it came from is still there. -#}
  {%- set kept = work_step(work ~ '__kept', "
    select log." ~ (record | join(', log.')) ~ "
    from " ~ log ~ " as log
    inner join " ~ work ~ "__standing as standing on " ~ agree('log', 'standing', entity.key) ~ "
    inner join " ~ work ~ "__copies as winner
      on winner.rank_in_key = 1 and " ~ agree('log', 'winner', entity.key + ['content']) ~ "
    inner join " ~ work ~ "__copies as origin on " ~ agree('log', 'origin', record) ~ "
    where log._ended_batch is null") -%}
  {%- do return([touched, standing, ranked, kept]) -%}
{% endmacro %}

{#- The statements of the one transaction. -#}
{% macro latest_write(entity, log, replaced) %}
  {%- set work = log.identifier -%}
  {%- set columns = latest_columns(entity) | join(', ') -%}
  {%- set newest = "(select max(batch) from " ~ work ~ "__batches)" -%}

  {%- set end -%}
    update {{ log }} set _ended_batch = {{ newest }}
    from (
      select standing.* from {{ work }}__standing as standing
      left join {{ work }}__kept as kept on {{ agree('standing', 'kept', entity.key) }}
      where kept.content is null
    ) as w
    where {{ log.identifier }}._ended_batch is null and {{ agree(log.identifier, 'w', entity.key) }}
  {%- endset -%}

  {%- set add -%}
    insert into {{ log }} ({{ columns }}, _batch, _ended_batch)
    select {{ 'copies.' ~ (latest_columns(entity) | join(', copies.')) }}, {{ newest }}, null
    from {{ work }}__copies as copies
    left join {{ work }}__kept as kept on {{ agree('copies', 'kept', entity.key) }}
    where copies.rank_in_key = 1 and kept.content is null
  {%- endset -%}

  {%- do return([
    end, add, delete_matching(replaced, work ~ '__touched', entity.key),
    "insert into " ~ replaced ~ " " ~ latest_losers(entity, work ~ '__copies'),
  ]) -%}
{% endmacro %}

{#-
  The copies that stand, the one that counts first: rank 1 of its key. Most keys have one copy, and need no sorting.
  `is_standing`: which copies stand.
-#}
{% macro latest_ranked(entity, stream, is_standing='_retracted_by is null') -%}
  {%- set key = entity.key | join(', ') %}
  with standing as (
    select * from {{ stream }} as stream
    where {{ is_standing }}
  ),

  contested as (
    select {{ key }}, count(*) as count_copies
    from standing
    group by {{ key }}
    having count(*) > 1
  )

  select
    standing.*,
    row_number() over (
      partition by {{ 'standing.' ~ (entity.key | join(', standing.')) }}
      order by _last_modified desc, _key desc, _row desc, _feed desc, _etag desc, _loaded_batch desc
    ) as rank_in_key
  from standing
  inner join contested on {{ agree('standing', 'contested', entity.key) }}

  union all

  select standing.*, 1 as rank_in_key
  from standing
  left join contested on {{ agree('standing', 'contested', entity.key) }}
  where contested.count_copies is null
{%- endmacro %}

{#- Of each content that lost, the newest copy, and the object that won. -#}
{% macro latest_losers(entity, ranked) -%}
  select {{ latest_columns(entity) | join(', ') }}, winner_key
  from (
    select
      copies.*,
      winner._key as winner_key,
      row_number() over (
        partition by {{ 'copies.' ~ ((entity.key + ['content']) | join(', copies.')) }} order by copies.rank_in_key
      ) as rank_in_content
    from {{ ranked }} as copies
    inner join {{ ranked }} as winner
      on winner.rank_in_key = 1 and {{ agree('copies', 'winner', entity.key) }}
    where copies.rank_in_key > 1 and copies.content <> winner.content
  ) as losers
  where rank_in_content = 1
{%- endmacro %}

{#- Every content that another object's replaced. -#}
{% macro latest_replaced(entity_name, stream) -%}
  {%- set entity = c360.entity(entity_name) -%}
with

ranked as (
  {{ latest_ranked(entity, stream) }}
)

{{ latest_losers(entity, 'ranked') }}
{%- endmacro %}

{#- Post-hook of the records: the table function `<model>_as_of(known_at)`, which gives those that counted by what had come by then. -#}
{% macro latest_function(entity_name, stream) -%}
  {%- if execute -%}
    {%- set entity = c360.entity(entity_name) -%}
    {%- set known_at = argument('known_at') -%}
    {%- set is_standing -%}
      known_at <= {{ known_at }}
      and coalesce(_retracted_by not in (select batch from ({{ batches_came() }}) as came where came_at <= {{ known_at }}), true)
    {%- endset -%}
    {%- set columns = [] -%}
    {%- for column in entity.key + entity.attributes %}{% do columns.append(column ~ ' ' ~ engine_type(entity.types[column])) %}{% endfor -%}
    {%- set rows -%}
      select {{ (entity.key + entity.attributes) | join(', ') }}
      from ({{ latest_ranked(entity, stream, is_standing) }}) as ranked
      where rank_in_key = 1
    {%- endset -%}
    {%- do table_function(as_of_name(this), columns, [(['known_at'], rows)]) -%}
  {%- endif -%}
{%- endmacro %}
