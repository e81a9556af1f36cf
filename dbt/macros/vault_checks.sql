{#- What the checks of the vault share. -#}

{#- The versions that a satellite tells of, by the tracked columns alone: key, valid_from, valid_to and these. -#}
{% macro vault_versions(entity_name, satellite, hub_of, hash_column) %}
  {%- set entity = c360.entity(entity_name) -%}
  {%- set so_far = 'order by applied_at rows between unbounded preceding and current row' %}
  with events as (
    {{ vault_events(satellite, hash_column) }}
  ),

  stretches as (
    select *{% if entity.partial %}, count(case when given is null then 1 end) over (partition by {{ hash_column }} {{ so_far }}) as stretch{% endif %}
    from events
  ),

  filled as (
    select
      {{ hash_column }}, applied_at, op
      {%- for c in entity.tracked %},
      {% if entity.partial %}{{ last_given(c, 'partition by ' ~ hash_column ~ ', stretch ' ~ so_far) }} as {% endif %}{{ c }}
      {%- endfor %}
    from stretches
  ),

  stated as (
    select *, {{ content_hash(by_name(entity.tracked), entity.types) }} as tracked_hash
    from filled
  ),

  compared as (
    select
      *,
      lag(op) over (partition by {{ hash_column }} order by applied_at) as former_op,
      lag(tracked_hash) over (partition by {{ hash_column }} order by applied_at) as former_hash
    from stated
  ),

  turns as (
    select *, lead(applied_at) over (partition by {{ hash_column }} order by applied_at) as valid_to
    from compared
    where op = 'delete' or former_op is null or former_op = 'delete' or former_hash <> tracked_hash
  )

  select hub.{{ entity.key | join(', hub.') }}, turns.applied_at as valid_from, turns.valid_to, turns.{{ entity.tracked | join(', turns.') }}
  from turns
  inner join {{ hub_of }} as hub on turns.{{ hash_column }} = hub.{{ hash_column }}
  where turns.op = 'upsert'
{% endmacro %}

{#-
  Of what some rows say, what the table lacks: by hash keys alone, because failing rows are kept and shown. `said`: {rows, where: a condition on them,
  within: {column: a relation that has it, too}, level: {log of core: table of the vault, which may wait for a run of its feed while the worker
  has brought core on: then nothing is lacking yet}, hubs: {hash column: {business key: expression}}, columns: {column: expression}}; `links` as `hubs`,
  for hash keys of links.
-#}
{% macro vault_lacking(table, said) -%}
  {%- set wanted = {} -%}
  {%- for column, key in said.hubs.items() %}{% do wanted.update({column: hash_key(key)}) %}{% endfor -%}
  {%- for column, key in (said.links or {}).items() %}{% do wanted.update({column: content_hash(key, {})}) %}{% endfor -%}
  {%- do wanted.update(said.columns or {}) -%}
  {%- set conditions = [said.where or 'true'] -%}
  {%- for log, told in (said.level or {}).items() if execute -%}
    {%- do conditions.append('not exists (select 1 from (' ~ consumed_by(log) ~ ' and batch not in (' ~ consumed_by(told) ~ ')) as ahead)') -%}
  {%- endfor -%}
  {%- for column, relation in (said.within or {}).items() -%}
    {%- do conditions.append(column ~ ' in (select ' ~ column ~ ' from ' ~ relation ~ ')') -%}
  {%- endfor %}
select '{{ said.hubs | join(', ') }}' as of_columns, {{ said.hubs | join(" || ', ' || ") }} as hash_keys
from (
  select
    {%- for column, expression in wanted.items() %}
    {{ expression }} as {{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
  from {{ said.rows }}
  where {{ conditions | join(' and ') }}
  except
  select {{ wanted | join(', ') }} from {{ table }}
) as lacking
{%- endmacro %}
