with

refused_in_reading as (
  select
    feed, _key, _etag, _row,
    cast(null as integer) as line,
    'reading' as stage,
    raw, reasons, refused_at,
    _batch as batch,
    _batch as _loaded_batch
  from {{ source('staging', 'refused_rows') }}
  where resolved_at is null and _superseded_at is null
),

refused_in_cleaning as (
  {%- for entity in var('entities') + var('streams') %}
  select
    _feed as feed, _key, _etag, _row,
    cast(null as integer) as line,
    'cleaning' as stage,
    raw, reasons,
    known_at as refused_at,
    _batch as batch,
    _loaded_batch
  from {{ ref(entity ~ '_rows') }}
  where reasons <> '[]'

  union all
  {% endfor %}

  select
    _feed as feed, _key, _etag, _row,
    case when {{ unit_of_line('_feed') }} = 'line' and line >= 0 then line end as line,
    'cleaning' as stage,
    raw, reasons,
    known_at as refused_at,
    _batch as batch,
    _loaded_batch
  from {{ ref('pos_line_rows') }}
  where reasons <> '[]'
),

-- Files of which the rows count and the deletes wait, because they lack too many keys.
held as (
  {%- for entity in var('entities') %}
  select
    snapshots.feed,
    ledger.key as _key,
    ledger.etag as _etag,
    0 as _row,
    cast(null as integer) as line,
    'guard' as stage,
    'lacks ' || cast(snapshots.count_missing as varchar) || ' of the ' || cast(snapshots.count_before as varchar)
    || ' keys of ' || {{ timestamp_text('snapshots.judged_against') }} as raw,
    '["too_many_deletes"]' as reasons,
    ledger.loaded_at as refused_at,
    snapshots.batch,
    ledger.batch as _loaded_batch
  from {{ ref(entity ~ '_snapshots') }} as snapshots
  inner join {{ source('staging', 'object_ledger') }} as ledger
    on snapshots.feed = ledger.feed and snapshots.event_time = ledger.event_time
  where snapshots.verdict = 'held' and ledger.status = 'loaded'
  {{ 'union all' if not loop.last }}
  {% endfor %}
),

refused as (
  select * from refused_in_reading
  union all
  select * from refused_in_cleaning
  union all
  select * from held
),

dismissed as (
  select
    feed, _key, _etag, _row,
    max(batch) as batch
  from {{ source('staging', 'quarantine_decisions') }}
  where decision = 'dismiss'
  group by feed, _key, _etag, _row
),

superseded as (
  select * from {{ ref('superseded_objects') }}
),

final as (
  select
    refused.feed,
    refused._key,
    refused._etag,
    refused._row,
    refused.line,
    refused.stage,
    refused.raw,
    refused.reasons,
    refused.refused_at,
    refused.batch
  from refused
  left join dismissed
    on refused.feed = dismissed.feed
    and refused._key = dismissed._key
    and refused._etag = dismissed._etag
    and refused._row = dismissed._row
    and refused.batch < dismissed.batch
  left join superseded
    on refused.feed = superseded._feed
    and refused._key = superseded._key
    and refused._etag = superseded._etag
    and refused._loaded_batch = superseded._loaded_batch
  where
    dismissed._row is null
    and superseded._key is null
)

select * from final
