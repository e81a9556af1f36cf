with

ledger as (
  select * from {{ source('staging', 'object_ledger') }}
),

superseded as (
  select * from ledger
  where status = 'superseded'
),

-- Records of a version that a replay could read after all stand beside the others of it.
supplements as (
  select distinct batch
  from {{ source('staging', 'quarantine_decisions') }}
  where decision = 'read'
),

-- A version that could not be read, or was gone, takes nothing from the one before it.
readable as (
  select ledger.*
  from ledger
  left join supplements on ledger.batch = supplements.batch
  where
    ledger.status in ('loaded', 'empty', 'superseded')
    and supplements.batch is null
),

final as (
  select
    superseded.feed as _feed,
    superseded.key as _key,
    superseded.etag as _etag,
    superseded.batch as _loaded_batch,
    min(readable.batch) as _retracted_by
  from superseded
  inner join readable
    on superseded.feed = readable.feed
    and superseded.key = readable.key
    and superseded.batch < readable.batch
  group by superseded.feed, superseded.key, superseded.etag, superseded.batch
)

select * from final
