{#-
  The fold of the engine `scd2`: work tables, named `<log>__<step>`, each a step of the reasoning.
-#}

{% macro scd2_fold_batches(entity, log, stream) %}
  {%- set work = log.identifier -%}
  {%- set retracting = run_query(
    "select 1 from (" ~ stream ~ ") as stream where _retracted_by in (select batch from " ~ work ~ "__batches) limit 1") | length > 0 -%}
  {%- do work_table(work ~ '__retracted', scd2_retracted(entity, work, stream)) -%}
  {%- do work_table(work ~ '__incoming', scd2_incoming(entity, work, stream, retracting)) -%}
  {%- do work_table(work ~ '__instants', scd2_instants(entity, work)) -%}
  {%- do work_table(work ~ '__touched', scd2_touched(entity, work)) -%}
  {%- do work_table(work ~ '__stored', scd2_stored(entity, work, log)) -%}
  {%- do work_table(work ~ '__merged', scd2_merged(entity, work)) -%}
  {%- do work_table(work ~ '__folded', scd2_folded(entity, work)) -%}
  {%- do work_table(work ~ '__ties', scd2_ties(entity, work)) -%}
{% endmacro %}

{#- Events of which a copy was taken back. Copies that came and went since the last run were never in the log. -#}
{% macro scd2_retracted(entity, work, stream) -%}
  select distinct {{ scd2_identity(entity) | join(', ') }}
  from ({{ stream }}) as stream
  where _retracted_by in (select batch from {{ work }}__batches)
    and _batch not in (select batch from {{ work }}__batches)
{%- endmacro %}

{#-
  One row per event that came, merged from its copies: the greatest position, the earliest known time, the lineage of
  the first. For an event of which a copy was taken back all copies that stand are merged anew.
-#}
{% macro scd2_incoming(entity, work, stream, retracting) -%}
  {%- set identity = scd2_identity(entity) | join(', ') -%}
  {%- set payload -%}
    {%- if entity.type1 %}
    {{ content_hash(by_name(entity.tracked), entity.types) }} as tracked,
    {%- endif %}
    {%- for column in entity.attributes %}
    {{ column }},
    {%- endfor %}
    _feed, _key, _etag, _row, _batch,
    is_merged_anew
  {%- endset %}
  with copies as (
    select
      stream.*,
      {% if retracting %}retracted.content is not null{% else %}false{% endif %} as is_merged_anew
    from ({{ stream }}) as stream
    {%- if retracting %}
    left join {{ work }}__retracted as retracted
      on {{ agree('stream', 'retracted', scd2_identity(entity)) }}
    {%- endif %}
    where stream._retracted_by is null
      and (stream._batch in (select batch from {{ work }}__batches){% if retracting %} or retracted.content is not null{% endif %})
  ),

  -- Most events come once, and need no sorting.
  contested as (
    select {{ identity }}, max(position) as greatest_position, min(known_at) as earliest_known_at
    from copies
    group by {{ identity }}
    having count(*) > 1
  ),

  ranked as (
    select
      copies.*,
      contested.greatest_position,
      contested.earliest_known_at,
      row_number() over (partition by {{ 'copies.' ~ (scd2_identity(entity) | join(', copies.')) }}
        order by copies._batch, copies._key, copies._row, copies._etag) as copy
    from copies
    inner join contested on {{ agree('copies', 'contested', scd2_identity(entity)) }}
  ),

  alone as (
    select copies.*
    from copies
    left join contested on {{ agree('copies', 'contested', scd2_identity(entity)) }}
    where contested.earliest_known_at is null
  )

  select {{ identity }}, position, known_at, {{ payload }}
  from alone

  union all

  select {{ identity }}, greatest_position as position, earliest_known_at as known_at, {{ payload }}
  from ranked
  where copy = 1
{%- endmacro %}

{#- Where an event comes or goes. -#}
{% macro scd2_instants(entity, work) -%}
  select {{ entity.key | join(', ') }}, event_time from {{ work }}__incoming
  union
  select {{ entity.key | join(', ') }}, event_time from {{ work }}__retracted
{%- endmacro %}

{#- Each key of which an event comes or goes, and its earliest one. -#}
{% macro scd2_touched(entity, work) -%}
  {%- set key = entity.key | join(', ') %}
  select {{ key }}, min(event_time) as since
  from {{ work }}__instants
  group by {{ key }}
{%- endmacro %}

{#- Of the log: the predecessor of each key's earliest change and everything after; narrow columns only. -#}
{% macro scd2_stored(entity, work, log) -%}
  select
    {%- for c in scd2_identity(entity) + ['position', 'known_at'] + (['tracked'] if entity.type1 else []) + scd2_marks() %}
    log.{{ c }},
    {%- endfor %}
    touched.since
  from {{ log }} as log
  inner join {{ work }}__touched as touched
    on {{ agree('log', 'touched', entity.key) }}
  where log.next_at is null or log.next_at >= touched.since
{%- endmacro %}

{#- Stored and incoming events as one set: `origin` is stored, raised (a copy changed its position) or new. -#}
{% macro scd2_merged(entity, work) %}
  with both_sides as (
    select
      {%- for c in scd2_identity(entity) %}
      coalesce(stored.{{ c }}, incoming.{{ c }}) as {{ c }},
      {%- endfor %}
      {%- if entity.type1 %}
      coalesce(stored.tracked, incoming.tracked) as tracked,
      {%- endif %}
      stored.content is not null as is_stored,
      incoming.content is not null as is_incoming,
      coalesce(incoming.is_merged_anew, false) as is_merged_anew,
      stored.position as stored_position,
      incoming.position as incoming_position,
      stored.known_at as stored_known_at,
      incoming.known_at as incoming_known_at,
      {%- for c in scd2_marks() %}
      stored.{{ c }} as stored_{{ c }},
      {%- endfor %}
      stored.since
    from {{ work }}__stored as stored
    full outer join {{ work }}__incoming as incoming
      on {{ agree('stored', 'incoming', scd2_identity(entity)) }}
  ),

  standing as (
    select both_sides.*
    from both_sides
    left join {{ work }}__retracted as retracted
      on {{ agree('both_sides', 'retracted', scd2_identity(entity)) }}
    where retracted.content is null or both_sides.is_incoming
  ),

  settled as (
    select
      *,
      case
        when not is_incoming then stored_position
        when not is_stored or is_merged_anew or stored_position is null then incoming_position
        when incoming_position is null then stored_position
        else greatest(stored_position, incoming_position)
      end as position,
      case
        when not is_incoming then stored_known_at
        when not is_stored or is_merged_anew then incoming_known_at
        else least(stored_known_at, incoming_known_at)
      end as known_at
    from standing
  )

  select
    {{ scd2_identity(entity) | join(', ') }},
    {%- if entity.type1 %}
    tracked,
    {%- endif %}
    position, known_at,
    {%- for c in scd2_marks() %}
    stored_{{ c }},
    {%- endfor %}
    stored_position, stored_known_at, since,
    case
      when not is_stored then 'new'
      when position is distinct from stored_position then 'raised'
      else 'stored'
    end as origin
  from settled
{%- endmacro %}

{#-
  The marks of each event of `merged`. Position decides before operation, delete comes after upsert, content last; only
  the last event of an instant takes part. The first event read of a key keeps the marks of its start where it lies
  before the earliest change: what made them was not read.
-#}
{% macro scd2_folded(entity, work) %}
  {%- set key = entity.key | join(', ') -%}
  {%- set state = scd2_state(entity) %}
  with ranked as (
    select
      *,
      row_number() over (
        partition by {{ key }}, event_time order by position desc nulls last, op asc, content desc
      ) as rank_in_instant
    from {{ work }}__merged
  ),

  neighbours as (
    select
      *,
      lag(op) over (partition by {{ key }} order by event_time) as previous_op,
      lag({{ state }}) over (partition by {{ key }} order by event_time) as previous_state,
      lead(op) over (partition by {{ key }} order by event_time) as next_op,
      lead({{ state }}) over (partition by {{ key }} order by event_time) as next_state,
      lead(event_time) over (partition by {{ key }} order by event_time) as coming_at
    from ranked
    where rank_in_instant = 1
  ),

  starts as (
    select
      *,
      case
        when op = 'delete' then null
        when previous_op is null and event_time < since then stored_version_from
        when previous_op is null or previous_op = 'delete' or previous_state <> {{ state }} then event_time
      end as start_at,
      case
        when op = 'delete' then null
        when previous_op is null and event_time < since then stored_change_type
        when previous_op is null or previous_op = 'delete' then 'insert'
        when previous_state <> {{ state }} then 'update'
      end as start_change_type
    from neighbours
  ),

  -- The latest start so far is the start of the version that a row belongs to.
  versions as (
    select
      *,
      max(start_at) over (partition by {{ key }} order by event_time rows unbounded preceding) as latest_start
    from starts
  ),

  winners as (
    select
      *,
      case when op = 'upsert' then latest_start end as version_from,
      coming_at as next_at,
      op = 'upsert' and (next_op is null or next_op = 'delete' or next_state <> {{ state }}) as is_version,
      case
        when op = 'upsert' then max(start_change_type) over (partition by {{ key }}, latest_start)
      end as change_type
    from versions
  ),

  final as (
    select
      {{ scd2_identity(entity) | join(', ') }},
      {{ 'tracked, ' if entity.type1 }}position, known_at, origin, since,
      version_from, next_at, is_version, change_type,
      case when is_version and next_op = 'delete' then 'delete' when is_version and next_op is not null then 'update' end as ended_by,
      stored_position, stored_known_at, {{ 'stored_' ~ (scd2_marks() | join(', stored_')) }}
    from winners

    union all

    select
      {{ scd2_identity(entity) | join(', ') }},
      {{ 'tracked, ' if entity.type1 }}position, known_at, origin, since,
      null as version_from, event_time as next_at, false as is_version, null as change_type, null as ended_by,
      stored_position, stored_known_at, {{ 'stored_' ~ (scd2_marks() | join(', stored_')) }}
    from ranked
    where rank_in_instant > 1
  )

  select
    *,
    origin <> 'new' and (
      position is distinct from stored_position
      or known_at is distinct from stored_known_at
      {%- for c in scd2_marks() %}
      or {{ c }} is distinct from stored_{{ c }}
      {%- endfor %}
    ) as is_changed
  from final
{%- endmacro %}

{#- Ties at the instants where an event came, went or changed its position: all events of such an instant are in `merged`. -#}
{% macro scd2_ties(entity, work) %}
  {%- set instant = entity.key + ['event_time'] -%}
  {%- set events -%}
    select merged.*
    from {{ work }}__merged as merged
    inner join {{ work }}__instants as instants on {{ agree('merged', 'instants', instant) }}
  {%- endset -%}
  {{ scd2_tie_rows(entity, '(' ~ events ~ ')') }}
{%- endmacro %}

{#- The statements of the one transaction. -#}
{% macro scd2_write(entity, log, current, ties) %}
  {%- set work = log.identifier -%}
  {%- set identity = scd2_identity(entity) -%}
  {%- set same_event = agree(log.identifier, 'w', identity) -%}
  {%- set merged = ['position', 'known_at'] -%}
  {%- set columns = scd2_log_columns(entity) -%}
  {%- set lineage = ['_feed', '_key', '_etag', '_row', '_batch'] -%}
  {%- set shown = (entity.key + entity.attributes) | join(', ') -%}

  {%- set forget -%}
    delete from {{ log }} using (
      select retracted.*
      from {{ work }}__retracted as retracted
      left join {{ work }}__incoming as incoming on {{ agree('retracted', 'incoming', identity) }}
      where incoming.content is null
    ) as w
    where {{ same_event }}
  {%- endset -%}

  {%- set mark -%}
    update {{ log }}
    set {% for c in merged + scd2_marks() %}{{ c }} = w.{{ c }}{{ ', ' if not loop.last }}{% endfor %}
    from {{ work }}__folded as w
    where w.is_changed and {{ same_event }}
  {%- endset -%}

  {#- An event of which the first copy was taken back comes from another object now. -#}
  {%- set name_origin -%}
    update {{ log }}
    set {% for c in lineage %}{{ c }} = w.{{ c }}{{ ', ' if not loop.last }}{% endfor %}
    from {{ work }}__incoming as w
    where w.is_merged_anew and {{ same_event }}
  {%- endset -%}

  {%- set add -%}
    insert into {{ log }} ({{ (columns + scd2_marks()) | join(', ') }})
    select
      {% for c in columns %}{{ 'w' if c in merged else 'incoming' }}.{{ c }}, {% endfor %}
      w.{{ scd2_marks() | join(', w.') }}
    from {{ work }}__incoming as incoming
    inner join {{ work }}__folded as w on {{ agree('incoming', 'w', identity) }}
    where w.origin = 'new'
  {%- endset -%}

  {%- set make_current -%}
    insert into {{ current }} ({{ shown }}, valid_from)
    select {{ shown }}, version_from
    from {{ log }} as log
    where is_version and next_at is null
      and exists (select 1 from {{ work }}__touched as w where {{ agree('log', 'w', entity.key) }})
  {%- endset -%}

  {%- do return([
    forget, mark, name_origin, add,
    delete_matching(current, work ~ '__touched', entity.key), make_current,
    delete_matching(ties, work ~ '__instants', entity.key + ['event_time']), 'insert into ' ~ ties ~ ' select * from ' ~ work ~ '__ties',
    mark_batches(log),
  ]) -%}
{% endmacro %}
