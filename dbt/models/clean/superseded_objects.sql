with

ledger as (
  select * from {{ source('staging', 'object_ledger') }}
),

superseded as (
  select * from ledger
  where status = 'superseded'
),

-- A version that could not be read, or was gone, takes nothing from the one before it.
readable as (
  select * from ledger
  where status in ('loaded', 'empty', 'superseded')
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
    -- Records of the same version that a replay could read after all stand beside it.
    and superseded.etag <> readable.etag
    and superseded.batch < readable.batch
  group by superseded.feed, superseded.key, superseded.etag, superseded.batch
)

select * from final
