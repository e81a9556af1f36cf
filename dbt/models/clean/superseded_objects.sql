with

ledger as (
  select * from {{ source('staging', 'object_ledger') }}
),

-- A version that could not be read, or was gone, takes nothing from the one before it.
readable as (
  select
    *,
    lead(batch) over (partition by feed, key order by batch) as next_batch
  from ledger
  where status in ('loaded', 'empty', 'superseded')
),

final as (
  select
    feed as _feed,
    key as _key,
    etag as _etag,
    batch as _loaded_batch,
    next_batch as _retracted_by
  from readable
  where status = 'superseded'
)

select * from final
