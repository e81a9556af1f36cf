{#-
  Materialization `absences`: the deletes that follow from what is not there. Each complete file of a snapshot feed
  deletes, at its instant, every key that the feed had before and that it lacks; a truncate deletes every key. The
  result is a function of the set of files: it is made again from the earliest instant at which something came or went.

  The model's SQL is one row per record of such feeds: `_feed`, the key columns (null where they cannot be read), `event_time`,
  `position`, `op`, `known_at`, `_key`, `_etag`, `_batch`, `_retracted_by`. The table holds one row per delete that follows, `_batch`
  with which it began to and `_retracted_by` with which it ceased to, `position` of the truncate (a file has none) and `known_at`: when
  both the set and an earlier record of the key had come, what a person decided about the set included, also after a rebuild.
  Companion `<entity>_snapshots`: a row per file and truncate, with what was made of it.

  A truncate takes what comes at its very instant, too, unless that states a greater position: its delete is an event in
  the order of the others.

  The guard: a file that lacks more than a share of the keys of the last one that stands (`guard`, 0.5 if undeclared) is
  held: its rows count, its deletes do not, and the next is judged against the one that stood, until a person releases it.
-#}
{% materialization absences, default %}
  {%- set entity = c360.entity(config.require('entity')) -%}
  {%- set work = this.identifier -%}
  {%- set table = this.incorporate(type='table') -%}
  {%- set snapshots = api.Relation.create(database=this.database, schema=this.schema, identifier=entity.name ~ '_snapshots', type='table') -%}
  {%- set feeds = absence_feeds(entity.name) -%}

  {%- do begin_node() -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {%- do ensure_consumed_batches(this) -%}
  {#- A table of before positions were kept is made anew: it follows from what is there. -#}
  {%- set there = load_cached_relation(this) -%}
  {%- if should_full_refresh() or there is none or load_cached_relation(snapshots) is none
    or 'position' not in adapter.get_columns_in_relation(there) | map(attribute='name') | map('lower') -%}
    {%- do forget_batches(this) -%}
    {%- do absence_make_tables(entity, table, snapshots, sql) -%}
  {%- endif -%}

  {%- if feeds | length > 0 and take_new_batches(this, consumed_by(entity.name ~ '_rows') or staged_batches()) > 0 -%}
    {%- set steps = absence_steps(entity, feeds, work, snapshots, sql) -%}
    {%- do take_steps(steps.gather) -%}
    {%- for feed, instant in run_query(
      "select feed, cast(event_time as varchar) from (" ~ steps.each ~ ") as waiting order by waiting.feed, waiting.event_time").rows -%}
      {%- call statement('verdict', auto_begin=False) -%}
        {{ absence_verdict(entity, feeds, work, snapshots, literal(feed), "cast('" ~ instant ~ "' as " ~ timestamp_type() ~ ")") }}
      {%- endcall -%}
    {%- endfor -%}
    {%- do take_steps(steps.settle) -%}
    {%- do write_batches(this, absence_write(entity, work, table, snapshots)) -%}
  {%- else -%}
    {%- call noop_statement('main', 'nothing new') %}{% endcall -%}
  {%- endif -%}
  {%- if is_told() -%}
    {%- do tell_alone(absences_told(entity, table, snapshots, sql) if feeds | length > 0
      else alone(this, "select '' as batch where false", [], [])) -%}
  {%- endif -%}

  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {%- do persist_docs(table, model) -%}
  {{ return({'relations': [table, snapshots]}) }}
{% endmaterialization %}

{#- The steps before and after the verdicts, and between them the sets that need one, in their order. -#}
{% macro absence_steps(entity, feeds, work, snapshots, stream) %}
  {%- do return({
    'gather': [
      work_step(work ~ '__sets', absence_sets(entity, feeds, stream)),
      work_step(work ~ '__since', absence_since(work, snapshots, stream)),
      work_step(work ~ '__present', absence_present(entity, work, stream)),
      work_step(work ~ '__verdicts',
        "select feed, event_time, cast('' as varchar) as position, event_time as known_at, _key, _etag, verdict, count_missing, count_before,"
        ~ " judged_against from " ~ snapshots ~ " where false"),
    ],
    'each': "select s.feed, s.event_time from " ~ work ~ "__sets as s inner join " ~ work ~ "__since as since on s.feed = since.feed"
      ~ " where s.event_time >= since.since",
    'settle': [work_step(work ~ '__desired', absence_desired(entity, work))],
  }) -%}
{% endmacro %}

{#- Feeds of which something that is not there means a delete, with their guard. -#}
{% macro absence_feeds(entity_name) %}
  {%- set found = [] -%}
  {%- for feed in declared_feeds(entity_name) if feed.feed.get('kind') == 'snapshot' or is_debezium(feed) -%}
    {%- do found.append(feed) -%}
  {%- endfor -%}
  {%- do return(found) -%}
{% endmacro %}

{#- The model's SQL. -#}
{% macro absence_rows(entity_name, rows, superseded) %}
  {%- set entity = c360.entity(entity_name) -%}
  {%- set feeds = absence_feeds(entity_name) | map(attribute='name') | list -%}
with

received as (
  select * from {{ rows }}
  where _feed in ('{{ feeds | join("', '") }}') and op <> 'tombstone'
),

superseded as (
  select * from {{ superseded }}
),

final as (
  select
    received._feed,
    {{ 'received.' ~ (entity.key | join(', received.')) }},
    received.event_time,
    received.position,
    received.op,
    received.known_at,
    received._key,
    received._etag,
    received._row,
    received._loaded_batch,
    received._batch,
    superseded._retracted_by
  from received
  left join superseded
    on {{ agree('received', 'superseded', ['_feed', '_key', '_etag', '_loaded_batch']) }}
  where received.op <> 'truncate' or received.reasons = '[]'
)

select * from final
{%- endmacro %}

{% macro absence_make_tables(entity, table, snapshots, stream) %}
  {%- for relation in [table, snapshots] -%}
    {%- set existing = load_cached_relation(relation) -%}
    {%- if existing is not none %}{% do adapter.drop_relation(existing) %}{% endif -%}
  {%- endfor -%}
  {%- call statement('make_absences', auto_begin=False) %}
    {{ new_table(table) }} as
    select _feed, {{ entity.key | join(', ') }}, event_time, position, known_at, _key, _etag, _batch, _retracted_by
    from ({{ stream }}) as stream where false
  {% endcall -%}
  {%- call statement('make_snapshots', auto_begin=False) %}
    {{ new_table(snapshots) }} as
    select
      _feed as feed, event_time, _key, _etag, cast('' as varchar) as verdict,
      cast(0 as bigint) as count_missing, cast(0 as bigint) as count_before, event_time as judged_against, _batch as batch
    from ({{ stream }}) as stream where false
  {% endcall -%}
{% endmacro %}

{#-
  The sets: files of one instant are one, complete if all of them are. A file is not where it could not be read, where a record
  of it has no readable key, because that might be any, or where it has no bytes at all and no person released it: it may have been cut. What a
  person dismissed is none.
-#}
{% macro absence_sets(entity, feeds, stream) %}
  {%- set ledger = staged('object_ledger') -%}
  {%- set decisions = staged('quarantine_decisions') -%}
  {%- set taken = '(' ~ (consumed_by(entity.name ~ '_rows') or staged_batches()) ~ ')' -%}
  {%- set no_key = [] -%}
  {%- for column in entity.key %}{% do no_key.append('stream.' ~ column ~ ' is null') %}{% endfor -%}
  {%- set snapshot_feeds = [] -%}
  {%- for feed in feeds if feed.feed.get('kind') == 'snapshot' %}{% do snapshot_feeds.append(feed.name) %}{% endfor %}
  with dismissed as (
    select feed, _key, _etag, _row, max(batch) as batch, max(decided_at) as decided_at
    from {{ decisions }} where decision = 'dismiss' and batch in {{ taken }}
    group by feed, _key, _etag, _row
  ),

  dismissals as (
    select feed, _key, _etag, max(decided_at) as decided_at from dismissed group by feed, _key, _etag
  ),

  released as (
    select feed, _key, _etag, max(batch) as batch, min(decided_at) as decided_at
    from {{ decisions }} where decision = 'release' and batch in {{ taken }}
    group by feed, _key, _etag
  ),

  unread as (
    select refused.feed, refused._key, refused._etag, count(*) as count_unread
    from {{ staged('refused_rows') }} as refused
    left join dismissed
      on refused.feed = dismissed.feed and refused._key = dismissed._key and refused._etag = dismissed._etag
      and refused._row = dismissed._row and refused._batch < dismissed.batch
    where refused.resolved_at is null and refused._superseded_at is null and dismissed._row is null
    group by refused.feed, refused._key, refused._etag
  ),

  -- Refused in cleaning for want of a key.
  keyless as (
    select stream._feed as feed, stream._key, stream._etag, count(*) as count_keyless
    from ({{ stream }}) as stream
    left join dismissed
      on stream._feed = dismissed.feed and stream._key = dismissed._key and stream._etag = dismissed._etag
      and stream._row = dismissed._row and stream._batch < dismissed.batch
    where stream._retracted_by is null and stream.op <> 'truncate' and dismissed._row is null
      and ({{ no_key | join(' or ') }})
    group by stream._feed, stream._key, stream._etag
  ),

  files as (
    select
      ledger.feed, ledger.event_time, cast(null as varchar) as position, ledger.key as _key, ledger.etag as _etag,
      unread.count_unread is null and keyless.count_keyless is null
      and (ledger.status <> 'empty' or released.batch is not null) as is_complete,
      released.batch is not null as is_released,
      false as is_truncate,
      greatest(ledger.loaded_at, coalesce(dismissals.decided_at, ledger.loaded_at)) as known_at,
      released.decided_at as released_at
    from {{ ledger }} as ledger
    left join unread on ledger.feed = unread.feed and ledger.key = unread._key and ledger.etag = unread._etag
    left join keyless on ledger.feed = keyless.feed and ledger.key = keyless._key and ledger.etag = keyless._etag
    left join dismissals on ledger.feed = dismissals.feed and ledger.key = dismissals._key and ledger.etag = dismissals._etag
    left join released on ledger.feed = released.feed and ledger.key = released._key and ledger.etag = released._etag
    where ledger.feed in ('{{ snapshot_feeds | join("', '") }}') and ledger.event_time is not null
      and (ledger.status in ('loaded', 'empty') or (ledger.status = 'unreadable' and unread.count_unread is not null))
      and ledger.batch in {{ taken }}

    union all

    select
      _feed as feed, event_time, position, _key, _etag,
      true as is_complete, true as is_released, true as is_truncate, known_at, cast(null as {{ timestamp_type() }}) as released_at
    from ({{ stream }}) as stream
    where _retracted_by is null and op = 'truncate'
  )

  select
    feed, event_time,
    min(_key) as _key,
    min(_etag) as _etag,
    min(case when is_complete then 1 else 0 end) = 1 as is_complete,
    max(case when is_released then 1 else 0 end) = 1 as is_released,
    max(case when is_truncate then 1 else 0 end) = 1 as is_truncate,
    max(position) as position,
    max(known_at) as known_at,
    min(released_at) as released_at
  from files
  group by feed, event_time
{% endmacro %}

{#- Per feed, the earliest instant at which something comes or goes with the new batches. -#}
{% macro absence_since(work, snapshots, stream) %}
  {%- set batches = '(select batch from ' ~ work ~ '__batches)' %}
  with changes as (
    select _feed as feed, event_time
    from ({{ stream }}) as stream
    where _batch in {{ batches }} or _retracted_by in {{ batches }}

    union all

    select feed, event_time
    from {{ staged('object_ledger') }}
    where batch in {{ batches }}

    union all

    -- A version that made way, and what a person decided about a file.
    select former.feed, former.event_time
    from {{ staged('object_ledger') }} as former
    inner join {{ staged('object_ledger') }} as newer
      on former.feed = newer.feed and former.key = newer.key and newer.batch in {{ batches }}
    where former.status = 'superseded'

    union all

    select ledger.feed, ledger.event_time
    from {{ staged('quarantine_decisions') }} as decisions
    inner join {{ staged('object_ledger') }} as ledger
      on decisions.feed = ledger.feed and decisions._key = ledger.key and decisions._etag = ledger.etag
    where decisions.batch in {{ batches }}
  )

  select feed, min(event_time) as since
  from changes
  where event_time is not null and feed in (select feed from {{ work }}__sets union select feed from {{ snapshots }})
  group by feed
{% endmacro %}

{#- Which keys the feed had when, and since when that is known; of a record that was refused too, if its key can be read. -#}
{% macro absence_present(entity, work, stream) %}
  {%- set key = entity.key | join(', ') %}
  select _feed as feed, event_time, {{ key }}, min(known_at) as known_at
  from ({{ stream }}) as stream
  where _retracted_by is null and op <> 'truncate' and event_time is not null
    {%- for column in entity.key %} and {{ column }} is not null{% endfor %}
    and _feed in (select feed from {{ work }}__since)
  group by _feed, event_time, {{ key }}
{% endmacro %}

{#-
  The verdict on one set, into the work table `__verdicts`: set by set in the order of time, because each is judged against the
  last that stands. `feed` and `instant` are expressions.
-#}
{% macro absence_verdict(entity, feeds, work, snapshots, feed, instant) %}
  {%- set stands = "verdict in ('stands', 'released', 'truncate')" %}
  insert into {{ work }}__verdicts
  with last_stood as (
    select max(event_time) as stood_at
    from (
      select event_time from {{ work }}__verdicts where feed = {{ feed }} and {{ stands }}
      union all
      select event_time from {{ snapshots }}
      where feed = {{ feed }} and {{ stands }} and event_time < (select since from {{ work }}__since where feed = {{ feed }})
    ) as stood
  ),

  -- How many keys of that set this one lacks, of how many.
  counted as (
    select count(*) as count_before, coalesce(sum(case when there.feed is null then 1 else 0 end), 0) as count_missing
    from {{ work }}__present as former
    inner join last_stood on former.event_time = last_stood.stood_at
    left join {{ work }}__present as there
      on former.feed = there.feed and {{ agree('former', 'there', entity.key) }} and there.event_time = {{ instant }}
    where former.feed = {{ feed }}
  ),

  this_set as (
    select
      judged.*, last_stood.stood_at, counted.count_before, counted.count_missing,
      -- A snapshot that says all it has to say, after another one.
      judged.is_complete and not judged.is_truncate and last_stood.stood_at is not null as is_compared
    from {{ work }}__sets as judged
    cross join last_stood
    cross join counted
    where judged.feed = {{ feed }} and judged.event_time = {{ instant }}
  ),

  weighed as (
    select
      this_set.*,
      is_compared and not count_missing <= {{ absence_guard(feeds) }} * count_before as is_too_few
    from this_set
  )

  select
    this_set.feed, this_set.event_time, this_set.position,
    case
      when this_set.is_too_few and this_set.released_at > this_set.known_at then this_set.released_at
      else this_set.known_at
    end as known_at,
    this_set._key, this_set._etag,
    case
      when not this_set.is_complete then 'incomplete'
      when this_set.is_truncate then 'truncate'
      when not this_set.is_too_few then 'stands'
      when this_set.is_released then 'released'
      else 'held'
    end as verdict,
    case when this_set.is_compared then this_set.count_missing else 0 end as count_missing,
    case when this_set.is_compared then this_set.count_before else 0 end as count_before,
    case when this_set.is_compared then this_set.stood_at end as judged_against
  from weighed as this_set
{% endmacro %}

{#- The share of its keys that a set may lack, by the feed of `this_set`. -#}
{% macro absence_guard(feeds) -%}
  case this_set.feed{% for feed in feeds %} when '{{ feed.name }}' then {{ feed.feed.get('guard', 0.5) }}{% endfor %} end
{%- endmacro %}

{#-
  The deletes that follow from the sets that stand, from the earliest change on, each known when its set was and some record of
  the key from before it.
-#}
{% macro absence_desired(entity, work) %}
  {%- set key = entity.key | join(', ') %}
  with seen as (
    select feed, {{ key }}, min(event_time) as first_at
    from {{ work }}__present
    group by feed, {{ key }}
  ),

  lacking as (
    select
      verdicts.feed,
      {{ 'seen.' ~ (entity.key | join(', seen.')) }},
      verdicts.event_time, verdicts.position, verdicts.known_at, verdicts._key, verdicts._etag
    from {{ work }}__verdicts as verdicts
    inner join seen
      on verdicts.feed = seen.feed
      and (seen.first_at < verdicts.event_time or (seen.first_at = verdicts.event_time and verdicts.verdict = 'truncate'))
    left join {{ work }}__present as there
      on verdicts.feed = there.feed and verdicts.event_time = there.event_time and {{ agree('seen', 'there', entity.key) }}
      and verdicts.verdict <> 'truncate'
    where verdicts.verdict in ('stands', 'released', 'truncate') and there.feed is null
  ),

  -- What was there so far, before what is lacking then.
  so_far as (
    select
      feed, {{ key }}, event_time, position, known_at, _key, _etag, is_lacking,
      min(case when not is_lacking then known_at end) over (
        partition by feed, {{ key }} order by event_time, is_lacking rows between unbounded preceding and current row
      ) as had_known_at
    from (
      select lacking.*, true as is_lacking from lacking
      union all
      select
        present.feed, {{ 'present.' ~ (entity.key | join(', present.')) }}, present.event_time,
        null as position, present.known_at, null as _key, null as _etag, false as is_lacking
      from {{ work }}__present as present
    ) as both_sides
  )

  select feed as _feed, {{ key }}, event_time, position, greatest(known_at, had_known_at) as known_at, _key, _etag
  from so_far
  where is_lacking
{% endmacro %}

{% macro absence_write(entity, work, table, snapshots) %}
  {%- set same = ['_feed'] + entity.key + ['event_time'] -%}
  {%- set agrees = "{} and {}.position is not distinct from {}.position" -%}
  {#- What comes of other feeds in the same run changes nothing here. -#}
  {%- set own = '(select batch from ' ~ work ~ '__batches where batch in (' ~ staged_batches(absence_feeds(entity.name) | map(attribute='name') | list) ~ '))' -%}
  {%- set batch = '(select max(batch) from ' ~ own ~ ' as own)' -%}
  {%- set expire -%}
    update {{ table }}
    set _retracted_by = {{ batch }}
    from (
      select stood.*
      from {{ table }} as stood
      inner join {{ work }}__since as since on stood._feed = since.feed
      left join {{ work }}__desired as desired on {{ agrees.format(agree('stood', 'desired', same), 'stood', 'desired') }}
      where stood._retracted_by is null and stood.event_time >= since.since and desired._feed is null
    ) as w
    where {{ table.identifier }}._retracted_by is null and {{ agrees.format(agree(table.identifier, 'w', same), table.identifier, 'w') }}
  {%- endset -%}
  {%- set add -%}
    insert into {{ table }} (_feed, {{ entity.key | join(', ') }}, event_time, position, known_at, _key, _etag, _batch, _retracted_by)
    select
      desired._feed, {{ 'desired.' ~ (entity.key | join(', desired.')) }}, desired.event_time, desired.position,
      -- One that does not follow from what is new alone follows because a verdict is another now: known by all that is new.
      case when desired.known_at >= arrivals.first_at then desired.known_at else arrivals.last_at end,
      desired._key, desired._etag, {{ batch }}, null
    from {{ work }}__desired as desired
    cross join (
      select min(came_at) as first_at, max(came_at) as last_at
      from ({{ batches_came() }}) as came
      where batch in {{ own }}
    ) as arrivals
    left join (select * from {{ table }} where _retracted_by is null) as stood
      on {{ agrees.format(agree('desired', 'stood', same), 'desired', 'stood') }}
    where stood._feed is null
  {%- endset -%}
  {%- set forget -%}
    delete from {{ snapshots }} using {{ work }}__since as w
    where {{ snapshots.identifier }}.feed = w.feed and {{ snapshots.identifier }}.event_time >= w.since
  {%- endset -%}
  {%- set keep -%}
    insert into {{ snapshots }} (feed, event_time, _key, _etag, verdict, count_missing, count_before, judged_against, batch)
    select feed, event_time, _key, _etag, verdict, count_missing, count_before, judged_against, {{ batch }}
    from {{ work }}__verdicts
  {%- endset -%}
  {%- do return([expire, add, forget, keep]) -%}
{% endmacro %}
