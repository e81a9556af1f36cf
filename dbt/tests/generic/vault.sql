{#- What must hold of the vault. Each test returns the rows that break it. -#}

{#- `columns`: lists of columns, each of which tells rows apart. -#}
{% test vault_unique(model, columns) %}
{%- for key in columns %}
select '{{ key | join(', ') }}' as of_columns, min({{ key[0] }}) as example, count(*) as count_rows
from {{ model }}
group by {{ key | join(', ') }}
having count(*) > 1
{{- ' union all' if not loop.last }}
{%- endfor %}
{% endtest %}

{#-
  Business keys of the events that the hub lacks, and those of the hub that no event names; the ghost's is null. `named`: [{events, key}].
-#}
{% test vault_filled(model, key, named) %}
{%- set events -%}
(
  {%- for source in named %}
  select {% for column in key %}{{ source.key[loop.index0] }} as {{ column }}{{ ', ' if not loop.last }}{% endfor %}
  from {{ source.events }}
  where {% for column in source.key %}{{ column }} is not null{{ ' and ' if not loop.last }}{% endfor %}
  union
  {%- endfor %}
  select {% for column in key %}cast(null as varchar) as {{ column }}{{ ', ' if not loop.last }}{% endfor %}
  from (select count(*) as count_rows from {{ model }}) as counted
  where count_rows > 0
)
{%- endset %}
{{ differences(model, events, key) }}
{% endtest %}

{% test vault_at_home(model, hubs) %}
{%- for each in hubs %}
select '{{ each.hash_column }}' as of_column, rows_of.{{ each.hash_column }} as hash_key, rows_of.record_source
from {{ model }} as rows_of
left join {{ each.hub }} as hub on rows_of.{{ each.hash_column }} = hub.{{ each.hash_column }}
where hub.{{ each.hash_column }} is null and rows_of.{{ each.hash_column }} is not null and rows_of._batch <> 'ghost'
{{- ' union all' if not loop.last }}
{%- endfor %}
{% endtest %}

{% test vault_tells_history(model, entity, hub, hash_column, history) %}
{%- set declared = c360.entity(entity) %}
{{ differences(
  '(' ~ vault_versions(entity, model, hub, hash_column) ~ ')', history, declared.key + ['valid_from', 'valid_to'] + declared.tracked
) }}
{% endtest %}

{#- What some rows say is in the table (vault_lacking). -#}
{% test vault_holds(model, said) %}
{%- for each in said %}
{{ vault_lacking(model, each) }}
{{- ' union all' if not loop.last }}
{%- endfor %}
{% endtest %}

{#-
  Each event of clean is told, from the batch that first brought it, at the greatest position that it came with, and as withdrawn where no
  copy of it stands; and nothing else is. A copy that came in an object which had already made way never stood. `sources` as the satellite's.
-#}
{% test vault_tells_events(model, hash_column, sources) %}
{%- set event = [hash_column, 'applied_at', 'op', 'hash_diff'] | join(', ') %}
with

told as (
  select
    {{ event }},
    min(_batch) as first_batch,
    max(position) as position,
    coalesce(max(case when is_withdrawn then _batch end) = max(_batch), false) as is_withdrawn
  from {{ model }}
  group by {{ event }}
),

stated as (
  {%- for source in sources %}
  select
    {{ hash_key(source.key) }} as {{ hash_column }},
    event_time as applied_at,
    op,
    content as hash_diff,
    min(_batch) as first_batch,
    max(position) as position,
    count(*) = count(_retracted_by) as is_withdrawn
  from {{ source.events }}
  where _retracted_by is null or _retracted_by > _batch
  group by {{ scd2_identity(c360.entity(source.entity)) | join(', ') }}

  union all
  {% endfor %}
  select
    {{ ghost_key() }} as {{ hash_column }},
    cast('1900-01-01' as {{ timestamp_type() }}) as applied_at,
    'upsert' as op,
    {{ sha256_text("''") }} as hash_diff,
    'ghost' as first_batch,
    null as position,
    false as is_withdrawn
  from (select count(*) as count_rows from {{ model }}) as counted
  where count_rows > 0
)

{{ differences('told', 'stated', [hash_column, 'applied_at', 'op', 'hash_diff', 'first_batch', 'position', 'is_withdrawn']) }}
{% endtest %}

{#-
  Each version of some histories begins with an event of the satellite that says the same, and a delete that ended one is told.
  `histories`: as in vault_lacking, each with its `entity`. What is type 1, or filled from parts, no single event has to say.
-#}
{% test vault_tells_versions(model, histories) %}
{%- for each in histories %}
  {%- set entity = c360.entity(each.entity) -%}
  {%- set stated = {'applied_at': 'valid_from', 'op': "'upsert'"} -%}
  {%- for column, expression in (each.columns or {}).items() if expression in entity.tracked and not entity.partial -%}
    {%- do stated.update({column: expression}) -%}
  {%- endfor %}
{{ vault_lacking(model, {'rows': each.rows, 'hubs': each.hubs, 'links': each.links, 'columns': stated}) }}
union all
{{ vault_lacking(model, {
  'rows': each.rows, 'where': "ended_by = 'delete'", 'hubs': each.hubs, 'columns': {'applied_at': 'valid_to', 'op': "'delete'"},
}) }}
{{- ' union all' if not loop.last }}
{%- endfor %}
{% endtest %}
