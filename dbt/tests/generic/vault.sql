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

{#- Business keys of the events that the hub lacks, and those of the hub that no event names. `named`: [{events, key}]. -#}
{% test vault_filled(model, key, named) %}
{%- set events -%}
(
  {%- for source in named %}
  select {% for column in key %}{{ source.key[loop.index0] }} as {{ column }}{{ ', ' if not loop.last }}{% endfor %}
  from {{ source.events }}
  where {% for column in source.key %}{{ column }} is not null{{ ' and ' if not loop.last }}{% endfor %}
  {{- ' union' if not loop.last }}
  {%- endfor %}
)
{%- endset %}
{{ differences('(select * from ' ~ model ~ ' where ' ~ key[-1] ~ ' is not null)', events, key) }}
{% endtest %}

{% test vault_at_home(model, hubs) %}
{%- for each in hubs %}
select '{{ each.hash_column }}' as of_column, rows_of.{{ each.hash_column }} as hash_key, rows_of.record_source
from {{ model }} as rows_of
left join {{ each.hub }} as hub on rows_of.{{ each.hash_column }} = hub.{{ each.hash_column }}
where hub.{{ each.hash_column }} is null and rows_of._batch <> 'ghost'
{{- ' union all' if not loop.last }}
{%- endfor %}
{% endtest %}

{% test vault_tells_history(model, entity, hub, hash_column, history) %}
{%- set declared = c360.entity(entity) %}
{{ differences(
  '(' ~ vault_versions(entity, model, hub, hash_column) ~ ')', history, declared.key + ['valid_from', 'valid_to'] + declared.tracked
) }}
{% endtest %}
