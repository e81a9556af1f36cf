{#- What the tests of a history share. -#}

{#- Each version beside the next one of its key; `tracked`, a hash, only where it is asked for: it costs more than the rest. -#}
{% macro versions_with_next(model, entity_name, with_tracked=false) -%}
  {%- set entity = c360.entity(entity_name) -%}
  {%- set key = entity.key | join(', ') -%}
  select
    {{ key }}, valid_from, valid_to, change_type, ended_by,
    {%- if with_tracked %}
    tracked,
    lead(tracked) over (partition by {{ key }} order by valid_from) as next_tracked,
    {%- endif %}
    lead(valid_from) over (partition by {{ key }} order by valid_from) as next_valid_from,
    lead(change_type) over (partition by {{ key }} order by valid_from) as next_change_type
  from (
    select *{% if with_tracked %}, {{ content_hash(by_name(entity.tracked), entity.types) }} as tracked{% endif %}
    from {{ model }}
  ) as versions
{%- endmacro %}

{#- Rows of one side that the other lacks, with the side. -#}
{% macro differences(table_side, log_side, columns) -%}
  {%- set shown = columns | join(', ') -%}
select 'only in the table' as side, {{ shown }}
from (select {{ shown }} from {{ table_side }} as t except select {{ shown }} from {{ log_side }} as l) as surplus
union all
select 'only by the log' as side, {{ shown }}
from (select {{ shown }} from {{ log_side }} as l except select {{ shown }} from {{ table_side }} as t) as missing
{%- endmacro %}
