{#-
  Data Vault 2.0 over the events of `clean`: hubs, links and satellites, insert only, each materialized `by_batch` with `of`, the
  entities whose events it reads. What they hold is a function of the events: a reload adds nothing, and a rebuild gives the same rows.

  A source of any of them is {events: the relation, columns...}; expressions are over the columns of the events. Hash keys are over
  `name=<bytes>:<text>;` of each business key, so that ("a", "bc") is not ("ab", "c"), and case counts. Where a business key is null
  the hash key is the ghost's, which every hub and satellite has a row of.
-#}

{% macro ghost_key() %}'{{ '0' * 64 }}'{% endmacro %}

{#- `parts`: {business key: expression}. -#}
{% macro hash_key(parts) -%}
  case when {{ parts.values() | join(' is null or ') }} is null then {{ ghost_key() }} else {{ content_hash(parts, {}) }} end
{%- endmacro %}

{#- The key of a link, of the business keys of its hubs and what else tells it apart, in a satellite's `columns`. A delete names none. -#}
{% macro link_key(parts, more) %}
  {%- set all = {} -%}
  {%- do all.update(parts) -%}
  {%- do all.update(more) -%}
  {%- do return("case when events.op = 'upsert' then " ~ content_hash(prefixed(all, 'events'), {}) ~ " end") -%}
{% endmacro %}

{#- Of a row: the object that first stated it. -#}
{% macro record_source(alias) %}{{ alias }}._feed || ':' || {{ alias }}._key{% endmacro %}

{#- Has the table rows already that the new ones are added to? -#}
{% macro vault_grows() %}{% do return(execute and load_cached_relation(this) is not none and not should_full_refresh()) %}{% endmacro %}

{#- Rows that are there: those of the batches at hand are about to be taken again (a mark was lost), and do not count. -#}
{% macro vault_known() -%}
  select * from {{ this }} where _batch not in (select batch from {{ new_batches() }})
{%- endmacro %}

{#- Only into a table that has no ghost yet: one that was made before anything came is empty. -#}
{% macro vault_without_ghost(hash_column) %}
  {%- if vault_grows() -%}
  from (select count(*) as count_ghosts from {{ this }} where {{ hash_column }} = {{ ghost_key() }}) as ghosts
  where count_ghosts = 0
  {%- endif -%}
{% endmacro %}

{#- The business keys that the new batches name, and where. -#}
{% macro vault_named(key, sources, condition='true') %}
  {%- for source in sources %}
  select
    {%- for column in key %}
    cast({{ source.key[column] }} as varchar) as {{ column }},
    {%- endfor %}
    {{ record_source('events') }} as record_source,
    events._row,
    events._batch
  from {{ source.events }} as events
  where {{ condition }} and events._batch in (select batch from {{ new_batches() }})
  {{- ' union all' if not loop.last }}
  {%- endfor %}
{% endmacro %}

{#-
  One row per business key, with the first batch that named it. `key`: its columns; `sources`: [{events, key: {column: expression}}].
-#}
{% macro hub(hash_column, key, sources) %}
with

named as (
  {{ vault_named(key, sources) }}
),

ranked as (
  select
    {{ hash_key(by_name(key)) }} as {{ hash_column }},
    named.*,
    row_number() over (partition by {{ key | join(', ') }} order by _batch, record_source, _row) as place
  from named
  where {{ key | join(' is not null and ') }} is not null
),

final as (
  select {{ hash_column }}, {{ key | join(', ') }}, record_source, _batch
  from ranked
  where place = 1
  {%- if vault_grows() %}
    and {{ hash_column }} not in (select {{ hash_column }} from ({{ vault_known() }}) as known)
  {%- endif %}

  union all

  select
    {{ ghost_key() }} as {{ hash_column }},
    {%- for column in key %}
    cast(null as varchar) as {{ column }},
    {%- endfor %}
    'ghost' as record_source,
    'ghost' as _batch
  {{ vault_without_ghost(hash_column) }}
)

select * from final
{% endmacro %}

{#-
  One row per combination of business keys that an event states. `hubs`: {hash column: its business keys}; `more`: keys that are
  no hub's, such as the line of an order; `sources`: [{events, key: {column: expression}}] with all of them.
-#}
{% macro link(hash_column, hubs, more, sources) %}
{%- set key = [] -%}
{%- for columns in hubs.values() %}{% for column in columns if column not in key %}{% do key.append(column) %}{% endfor %}{% endfor -%}
{%- for column in more if column not in key %}{% do key.append(column) %}{% endfor %}
with

named as (
  {{ vault_named(key, sources, "events.op = 'upsert'") }}
),

ranked as (
  select
    {{ content_hash(by_name(key), {}) }} as {{ hash_column }},
    {%- for hub_column, columns in hubs.items() %}
    {{ hash_key(by_name(columns)) }} as {{ hub_column }},
    {%- endfor %}
    named.*,
    row_number() over (partition by {{ key | join(', ') }} order by _batch, record_source, _row) as place
  from named
)

select {{ ([hash_column] + hubs.keys() | list + more) | join(', ') }}, record_source, _batch
from ranked
where place = 1
{%- if vault_grows() %}
  and {{ hash_column }} not in (select {{ hash_column }} from ({{ vault_known() }}) as known)
{%- endif %}
{% endmacro %}

{#-
  One row per event of a hub's or a link's key, by when it applies; a copy adds none. Where no copy of an event stands any more, or
  one stands again, or another position counts, a further row says so: the newest of an event by `_batch` is what holds of it.

  `sources`: [{entity, events, key: {business key: expression}, columns: {attribute: expression}}], all with the same columns;
  with `columns` 'all', the entity's attributes.
-#}
{% macro satellite(hash_column, sources) %}
with
{%- for source in sources %}
  {%- set entity = c360.entity(source.entity) -%}
  {%- set n = loop.index -%}
  {%- set identity = scd2_identity(entity) -%}
  {%- set listed = identity | join(', ') -%}
  {%- set columns = by_name(entity.attributes) if source.columns == 'all' else source.columns -%}
  {%- set given = ['given'] if entity.partial else [] %}
  {%- if given and source.columns != 'all' -%}
    {%- do exceptions.raise_compiler_error(
      model.name ~ " takes single columns of what feeds state of " ~ source.entity ~ ", of which a feed of kind partial leaves out some: "
      ~ "declare that feed with another kind, or give its rows an entity of their own") -%}
  {%- endif %}

copies_{{ n }} as (
  select events.*
  from {{ source.events }} as events
  {%- if vault_grows() %}
  inner join (
    select distinct {{ listed }}
    from {{ source.events }} as events
    where _batch in (select batch from {{ new_batches() }}) or _retracted_by in (select batch from {{ new_batches() }})
  ) as touched on {{ agree('events', 'touched', identity) }}
  {%- endif %}
),

-- Most events come once, and stay.
contested_{{ n }} as (
  select {{ listed }}
  from copies_{{ n }}
  group by {{ listed }}
  having count(*) > 1 or max(_retracted_by) is not null
),

first_copies_{{ n }} as (
  select
    copies.*,
    contested.content is not null as is_contested,
    row_number() over (
      partition by {{ 'copies.' ~ (identity | join(', copies.')) }}
      order by copies._batch, copies._feed, copies._key, copies._row
    ) as place
  from copies_{{ n }} as copies
  left join contested_{{ n }} as contested on {{ agree('copies', 'contested', identity) }}
),

moments_{{ n }} as (
  select {{ listed }}, _batch as moment from first_copies_{{ n }} where is_contested
  union
  select {{ listed }}, _retracted_by as moment from first_copies_{{ n }} where _retracted_by is not null
),

standing_{{ n }} as (
  select
    {{ 'moments.' ~ (identity | join(', moments.')) }},
    moments.moment,
    count(copies._batch) = 0 as is_withdrawn,
    {%- if given %}
    case when count(copies.given) = count(copies._batch) then max(copies.given) end as given,
    {%- endif %}
    max(copies.position) as position
  from moments_{{ n }} as moments
  left join copies_{{ n }} as copies
    on {{ agree('moments', 'copies', identity) }}
    and copies._batch <= moments.moment
    and (copies._retracted_by is null or copies._retracted_by > moments.moment)
  group by {{ 'moments.' ~ (identity | join(', moments.')) }}, moments.moment
),

compared_{{ n }} as (
  select
    standing.*,
    lag(is_withdrawn, 1, true) over (partition by {{ listed }} order by moment) as was_withdrawn
    {%- for column in ['position'] + given %},
    lag({{ column }}) over (partition by {{ listed }} order by moment) as former_{{ column }}
    {%- endfor %}
  from standing_{{ n }} as standing
),

told_{{ n }} as (
  select {{ listed }}, moment, is_withdrawn, {{ (given + ['position']) | join(', ') }}
  from compared_{{ n }}
  where is_withdrawn <> was_withdrawn
  {%- for column in ['position'] + given %}
    or (not is_withdrawn and {{ column }} is distinct from former_{{ column }})
  {%- endfor %}

  union all

  select {{ listed }}, _batch as moment, false as is_withdrawn, {{ (given + ['position']) | join(', ') }}
  from first_copies_{{ n }}
  where not is_contested
),

rows_{{ n }} as (
  select
    {{ hash_key(prefixed(source.key, 'events')) }} as {{ hash_column }},
    told.event_time as applied_at,
    told.op,
    told.position,
    {%- for column in given %}
    told.{{ column }},
    {%- endfor %}
    told.content as hash_diff,
    told.is_withdrawn,
    {%- for column, expression in prefixed(columns, 'events').items() %}
    {{ expression }} as {{ column }},
    {%- endfor %}
    {{ record_source('events') }} as record_source,
    told.moment as _batch
  from told_{{ n }} as told
  inner join first_copies_{{ n }} as events on {{ agree('told', 'events', identity) }} and events.place = 1
  {%- if vault_grows() %}
  where told.moment in (select batch from {{ new_batches() }})
  {%- endif %}
),
{%- endfor %}

final as (
  {%- for source in sources %}
  select * from rows_{{ loop.index }}
  {{- ' union all' if not loop.last }}
  {%- endfor %}
  {%- set entity = c360.entity(sources[0].entity) %}

  union all

  select
    {{ ghost_key() }} as {{ hash_column }},
    cast('1900-01-01' as {{ timestamp_type() }}) as applied_at,
    'upsert' as op,
    null as position,
    {%- if entity.partial %}
    null as given,
    {%- endif %}
    {{ sha256_text("''") }} as hash_diff,
    false as is_withdrawn,
    {%- for column in (entity.attributes if sources[0].columns == 'all' else sources[0].columns) %}
    null as {{ column }},
    {%- endfor %}
    'ghost' as record_source,
    'ghost' as _batch
  {{ vault_without_ghost(hash_column) }}
)

select * from final
{% endmacro %}

{#- {name: expression} where an expression that is a column's name belongs to `alias`; others stay as they are. -#}
{% macro prefixed(expressions, alias) %}
  {%- set found = {} -%}
  {%- for name, expression in expressions.items() -%}
    {%- do found.update({name: alias ~ '.' ~ expression if modules.re.fullmatch('[a-z_]+', expression) else expression}) -%}
  {%- endfor -%}
  {%- do return(found) -%}
{% endmacro %}

{#- Of a satellite the events that hold, one per key and instant: positions decide, then a delete, then the hash. -#}
{% macro vault_events(satellite, hash_column) -%}
  select *
  from (
    select
      newest.*,
      row_number() over (
        partition by {{ hash_column }}, applied_at order by position desc nulls last, op asc, hash_diff desc
      ) as place_in_instant
    from (
      select
        satellite.*,
        row_number() over (partition by {{ hash_column }}, applied_at, op, hash_diff order by _batch desc nulls last) as place
      from {{ satellite }} as satellite
      where {{ hash_column }} <> {{ ghost_key() }}
    ) as newest
    where place = 1 and not is_withdrawn
  ) as events
  where place_in_instant = 1
{%- endmacro %}

{#- What holds now of each key of a satellite. -#}
{% macro vault_latest(satellite, hash_column) -%}
  select *
  from (
    select events.*, row_number() over (partition by {{ hash_column }} order by applied_at desc nulls last) as place_of_key
    from ({{ vault_events(satellite, hash_column) }}) as events
  ) as latest
  where place_of_key = 1 and op = 'upsert'
{%- endmacro %}
