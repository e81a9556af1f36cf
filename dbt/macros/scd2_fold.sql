{#-
  The fold of the engine `scd2`: work tables, named `<log>__<step>`, each a step of the reasoning. Rows are told apart by a
  number, `_id`, which costs a join a tenth of what key, time, operation and content cost; wide columns are read
  and written once.
-#}

{% macro scd2_fold_batches(entity, log, stream, anew=false) %}
  {%- set work = log.identifier -%}
  {%- set retracting = run_query(
    "select 1 from (" ~ stream ~ ") as stream where _retracted_by in (select batch from " ~ work ~ "__batches) limit 1") | length > 0 -%}
  {%- set steps = scd2_steps(entity, log, stream, retracting, anew) -%}
  {%- do take_steps(steps.gather) -%}
  {%- if run_query('select 1 from ' ~ work ~ '__settled limit 1') | length > 0 %}{% do take_steps(steps.settle) %}{% endif -%}
  {%- do take_steps(steps.fold) -%}
  {%- do return(retracting) -%}
{% endmacro %}

{#-
  The steps in their order. `settle` is needed where an event came more than once, and does nothing where none did. Into a log that
  is new (`anew`) only such instants can be crowded as were among the copies.
-#}
{% macro scd2_steps(entity, log, stream, retracting, anew=false) %}
  {%- set work = log.identifier -%}
  {%- set rows = numbered_rows(work ~ '__incoming') -%}
  {%- set further_copies -%}
    delete from {{ rows }} using (select * from {{ work }}__settled where copy > 1) as w where {{ rows }}.{{ row_id() }} = w._id
  {%- endset -%}
  {%- set first_copies -%}
    update {{ rows }}
    set position = w.greatest_position, known_at = w.earliest_known_at{{ ', given = w.common_given' if entity.partial }}
    from (select * from {{ work }}__settled where copy = 1) as w
    where {{ rows }}.{{ row_id() }} = w._id
  {%- endset -%}
  {%- do return({
    'gather': [
      work_step(work ~ '__retracted', scd2_retracted(entity, work, stream, retracting)),
      work_step(work ~ '__incoming', scd2_copies(entity, work, stream, retracting), numbered=true),
      work_step(work ~ '__shared', scd2_crowded(entity, work ~ '__incoming')),
      work_step(work ~ '__settled', scd2_settled(entity, work)),
    ],
    'settle': [
      change_step(further_copies),
      change_step(first_copies),
    ],
    'fold': [work_step(work ~ '__touched', scd2_touched(entity, work))] + scd2_stored(entity, work, log) + [
      work_step(work ~ '__merged', scd2_merged(entity, work, retracting)),
      work_step(work ~ '__crowded', scd2_crowded(entity, work ~ '__merged', work ~ '__shared' if anew else none)),
      work_step(work ~ '__folded', scd2_folded(entity, work ~ '__merged', crowded=work ~ '__crowded')),
      work_step(work ~ '__open', scd2_open(entity, work)),
      work_step(work ~ '__ties', scd2_ties(entity, work)),
    ],
  }) -%}
{% endmacro %}

{#- Events of which a copy was taken back. Copies that came and went since the last run were never in the log. -#}
{% macro scd2_retracted(entity, work, stream, retracting) -%}
  select distinct {{ scd2_identity(entity) | join(', ') }}
  from ({{ stream }}) as stream
  {%- if retracting %}
  where _retracted_by in (select batch from {{ work }}__batches)
    and _batch not in (select batch from {{ work }}__batches)
  {%- else %}
  where false
  {%- endif %}
{%- endmacro %}

{#- What comes: the copies of the new batches, and of an event of which a copy was taken back all that stand. -#}
{% macro scd2_copies(entity, work, stream, retracting) %}
  select
    {{ 'stream.' ~ (scd2_identity(entity) | join(', stream.')) }},
    stream.position,
    stream.known_at,
    {%- if entity.partial %}
    stream.given,
    {%- elif scd2_keeps_state(entity) %}
    {{ content_hash(by_name(entity.tracked, 'stream.'), entity.types) }} as state_hash,
    {%- endif %}
    {%- for column in entity.attributes + scd2_lineage() %}
    stream.{{ column }},
    {%- endfor %}
    {% if retracting %}retracted.content is not null{% else %}false{% endif %} as is_merged_anew
  from ({{ stream }}) as stream
  {%- if retracting %}
  left join {{ work }}__retracted as retracted
    on {{ agree('stream', 'retracted', scd2_identity(entity)) }}
  {%- endif %}
  where stream._retracted_by is null
    and (stream._batch in (select batch from {{ work }}__batches){% if retracting %} or retracted.content is not null{% endif %})
{%- endmacro %}

{#-
  Instants of a key with more than one event, `among` a table of instants if one is named. They are few: what has to tell events of
  an instant apart asks about these alone.
-#}
{% macro scd2_crowded(entity, events, among=none) -%}
  {%- set instant = 'events.' ~ ((entity.key + ['event_time']) | join(', events.')) %}
  select {{ instant }}
  from {{ events }} as events
  {%- if among %}
  inner join {{ among }} as among on {{ agree('events', 'among', entity.key + ['event_time']) }}
  {%- endif %}
  group by {{ instant }}
  having count(*) > 1
{%- endmacro %}

{#-
  The copies of each event that came more than once, the first one first: it stands for all, with the greatest position and the
  earliest known time. Most events come once, and need no merging.
-#}
{% macro scd2_settled(entity, work) %}
  {%- set of_one = '(partition by incoming.' ~ (scd2_identity(entity) | join(', incoming.')) ~ ')' %}
  select _id, greatest_position, earliest_known_at{{ ', common_given' if entity.partial }}, copy
  from (
    select
      incoming._id,
      max(incoming.position) over {{ of_one }} as greatest_position,
      min(incoming.known_at) over {{ of_one }} as earliest_known_at,
      {%- if entity.partial %}
      -- Where one copy states everything, its nulls are values.
      case when count(incoming.given) over {{ of_one }} = count(*) over {{ of_one }} then max(incoming.given) over {{ of_one }} end as common_given,
      {%- endif %}
      count(*) over {{ of_one }} as count_copies,
      row_number() over (
        partition by {{ 'incoming.' ~ (scd2_identity(entity) | join(', incoming.')) }}
        order by incoming._batch, incoming._key, incoming._row, incoming._etag
      ) as copy
    from {{ work }}__incoming as incoming
    inner join {{ work }}__shared as shared on {{ agree('incoming', 'shared', entity.key + ['event_time']) }}
  ) as copies
  where count_copies > 1
{%- endmacro %}

{#- Where an event comes or goes. An instant may stand there more than once. -#}
{% macro scd2_instants(entity, work) -%}
  select {{ entity.key | join(', ') }}, event_time from {{ work }}__incoming
  union all
  select {{ entity.key | join(', ') }}, event_time from {{ work }}__retracted
{%- endmacro %}

{#- Each key of which an event comes or goes, and its earliest one. -#}
{% macro scd2_touched(entity, work) -%}
  {%- set key = entity.key | join(', ') %}
  select {{ key }}, min(event_time) as since
  from ({{ scd2_instants(entity, work) }}) as instants
  group by {{ key }}
{%- endmacro %}

{#-
  Of the log: the predecessor of each key's earliest change and everything after; narrow columns only, unless values
  are filled from one row to the next.
-#}
{% macro scd2_stored(entity, work, log) -%}
  {%- do return(steps_that_reach(log, work, entity.key, scd2_identity(entity) + ['position', 'known_at'] + scd2_moving(entity)
    + scd2_marks() + (['state_hash'] if scd2_keeps_state(entity) and not entity.partial else []))) -%}
{%- endmacro %}

{#- Stored and incoming events as one set, with what the log says of them now. -#}
{% macro scd2_merged(entity, work, retracting) %}
  {%- set moving = scd2_moving(entity) %}
  with both_sides as (
    select
      coalesce(incoming._id, stored._id) as _id,
      stored._address,
      {%- for c in scd2_identity(entity) %}
      coalesce(stored.{{ c }}, incoming.{{ c }}) as {{ c }},
      {%- endfor %}
      {%- if scd2_keeps_state(entity) and not entity.partial %}
      coalesce(stored.state_hash, incoming.state_hash) as state_hash,
      {%- endif %}
      stored._id is not null as is_stored,
      incoming._id is not null as is_incoming,
      coalesce(incoming.is_merged_anew, false) as is_merged_anew,
      {%- for c in ['position', 'known_at'] + moving if c != 'state_hash' %}
      incoming.{{ c }} as incoming_{{ c }},
      {%- endfor %}
      {%- for c in ['position', 'known_at'] + moving + scd2_marks() %}
      stored.{{ c }} as stored_{{ c }},
      {%- endfor %}
      stored.since
    from (select * from {{ work }}__stored where is_of_key) as stored
    full outer join {{ work }}__incoming as incoming
      on {{ agree('stored', 'incoming', scd2_identity(entity)) }}
  ),

  standing as (
    select both_sides.*
    from both_sides
    {%- if retracting %}
    left join {{ work }}__retracted as retracted
      on {{ agree('both_sides', 'retracted', scd2_identity(entity)) }}
    where retracted.content is null or both_sides.is_incoming
    {%- endif %}
  )

  select
    _id, _address,
    {{ scd2_identity(entity) | join(', ') }},
    is_stored, since,
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
    end as known_at,
    {%- if entity.partial %}
    case
      when not is_incoming then stored_given
      when not is_stored or is_merged_anew then incoming_given
      when incoming_given is not null then stored_given
    end as given,
    {%- for c in entity.attributes %}
    {{ scd2_stated(entity, c) }} as {{ c }},
    {%- endfor %}
    {%- elif scd2_keeps_state(entity) %}
    state_hash,
    {%- endif %}
    stored_{{ (['position', 'known_at'] + moving + scd2_marks()) | join(', stored_') }}
  from standing
{%- endmacro %}

{#-
  What a row states of a column: what came, or what of the stored value was stated and not filled in. The row before the
  earliest change keeps what it was filled with, for it is what the next ones are filled from.
-#}
{% macro scd2_stated(entity, column) -%}
  case
    when not is_stored then incoming_{{ column }}
    when event_time < since or stored_given is null
      or substr(stored_given, {{ entity.attributes.index(column) + 1 }}, 1) = '1' then stored_{{ column }}
  end
{%- endmacro %}

{#- The order in which the events of a key apply, least first. -#}
{% macro scd2_order() -%}
  event_time asc, position asc nulls first, op desc, content asc
{%- endmacro %}

{#-
  CTEs, the last one `stated`: partial events filled, with their state. What an event does not give is taken from the state
  just before it. An event that gives everything, as a delete does, begins a stretch; nothing is taken across its
  beginning. The first row of all, the one before the earliest change, says all that it was filled with.
-#}
{% macro scd2_filled(entity, merged, carried) %}
  {%- set key = entity.key | join(', ') -%}
  {%- set so_far = 'order by ' ~ scd2_order() ~ ' rows between unbounded preceding and current row' %}
  stretches as (
    select
      *,
      count(case when given is null then 1 end) over (
        partition by {{ key }} {{ so_far }}
      ) as stretch
    from {{ merged }}
  ),

  filled as (
    select
      {{ (scd2_identity(entity) + ['position'] + carried) | join(', ') }}
      {%- for c in entity.attributes %},
      case when op = 'upsert' then {{ last_given(c, 'partition by ' ~ key ~ ', stretch ' ~ so_far) }} end as {{ c }}
      {%- endfor %}
    from stretches
  ),

  stated as (
    select
      *,
      {{ scd2_state_hash(entity) }} as state_hash
    from filled
  ),
{% endmacro %}

{#-
  The marks of each event of `merged`. Position decides before operation, delete comes after upsert, content last; only
  the last event of an instant takes part. The first event read of a key keeps the marks of its start where it lies
  before the earliest change: what made them was not read. Columns of `carried` come out as they went in; `crowded` is a table
  of the crowded instants, if there is one.
-#}
{% macro scd2_folded(entity, merged, carried=[], crowded=none) %}
  {%- set key = entity.key | join(', ') -%}
  {%- set state = scd2_state(entity) -%}
  {%- set before = ['_id', 'is_stored', 'since', 'stored_version_from', 'stored_change_type'] -%}
  {%- set payload = (['state_hash'] + entity.attributes) if entity.partial else carried -%}
  {%- set shown = (['_id', 'is_stored'] + entity.key + payload) | join(', ') -%}
  {%- set kept = (entity.key + ['event_time', 'op'] + before + ([] if state in payload else [state]) + payload) | join(', ') %}
  with {{ scd2_filled(entity, merged, before) if entity.partial }}
  events as (
    select {{ kept }}, position{{ ', content' if state != 'content' }}
    from {{ 'stated' if entity.partial else merged }}
  ),

  -- Most instants have one event, and need no ranking.
  crowded as (
    {{ 'select * from ' ~ crowded if crowded else scd2_crowded(entity, 'events') }}
  ),

  ranked as (
    select
      events._id,
      row_number() over (
        partition by {{ 'events.' ~ (entity.key | join(', events.')) }}, events.event_time
        order by events.position desc nulls last, events.op asc, events.content desc
      ) as rank_in_instant
    from events
    inner join crowded on {{ agree('events', 'crowded', entity.key + ['event_time']) }}
  ),

  losers as (
    select _id from ranked where rank_in_instant > 1
  ),

  neighbours as (
    select
      {{ 'events.' ~ kept | replace(', ', ', events.') }},
      lag(op) over (partition by {{ key }} order by event_time) as previous_op,
      lag({{ state }}) over (partition by {{ key }} order by event_time) as previous_state,
      lead(op) over (partition by {{ key }} order by event_time) as next_op,
      lead({{ state }}) over (partition by {{ key }} order by event_time) as next_state,
      lead(event_time) over (partition by {{ key }} order by event_time) as following_at
    from events
    left join losers on events._id = losers._id
    where losers._id is null
  ),

  starts as (
    select
      {{ shown }}, event_time, op, following_at,
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
      end as start_change_type,
      case
        when op = 'delete' then null
        when next_op is null then 'open'
        when next_op = 'delete' then 'delete'
        when next_state <> {{ state }} then 'update'
      end as end_type
    from neighbours
  ),

  -- The latest start so far is the start of the version that a row belongs to.
  versions as (
    select
      *,
      max(start_at) over (partition by {{ key }} order by event_time rows unbounded preceding) as latest_start,
      {{ last_given(
        'start_change_type',
        'partition by ' ~ key ~ ' order by event_time rows between unbounded preceding and current row'
      ) }} as latest_change_type
    from starts
  )

  select
    {{ shown }},
    case when op = 'upsert' then latest_start end as version_from,
    following_at as next_at,
    end_type is not null as is_version,
    case when op = 'upsert' then latest_change_type end as change_type,
    nullif(end_type, 'open') as ended_by
  from versions

  union all

  select
    {{ shown }},
    null as version_from, event_time as next_at, false as is_version, null as change_type, null as ended_by
  from events
  where _id in (select losers._id from losers)
{%- endmacro %}

{#- The open version of each key touched, and whether it was the open one before. -#}
{% macro scd2_open(entity, work) %}
  select
    folded._id, merged._address,
    {{ 'folded.' ~ (entity.key | join(', folded.')) }},
    merged.event_time, merged.op, merged.content,
    folded.version_from,
    merged.stored_version_from,
    folded.is_stored,
    coalesce(merged.stored_is_version and merged.stored_next_at is null, false) as was_open
  from {{ work }}__folded as folded
  left join (select * from {{ work }}__merged where is_stored) as merged on folded._id = merged._id
  where folded.is_version and folded.next_at is null
{%- endmacro %}

{#- Ties at the instants where an event came, went or changed its position: all events of such an instant are in `merged`. -#}
{% macro scd2_ties(entity, work) %}
  {%- set instant = entity.key + ['event_time'] -%}
  {%- set events -%}
    select merged.*
    from {{ work }}__merged as merged
    inner join {{ work }}__crowded as crowded on {{ agree('merged', 'crowded', instant) }}
    where exists (
      select 1 from ({{ scd2_instants(entity, work) }}) as instants where {{ agree('merged', 'instants', instant) }}
    )
  {%- endset -%}
  {{ scd2_tie_rows(entity, '(' ~ events ~ ')') }}
{%- endmacro %}
