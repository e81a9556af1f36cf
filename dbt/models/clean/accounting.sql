with

ledger as (
  select distinct
    feed as _feed,
    key as _key,
    etag as _etag
  from {{ source('staging', 'object_ledger') }}
  where status <> 'gone'
),

-- Counted where they arrived, so that what cleaning makes of them can be held against it.
received as (
  {{ received_per_object() }}
),

refused_in_reading as (
  select
    feed as _feed,
    _key,
    _etag,
    count(*) as count_refused
  from {{ source('staging', 'refused_rows') }}
  where resolved_at is null
  group by feed, _key, _etag
),

cleaned as (
  select
    _feed,
    _key,
    _etag,
    count(*) as count_cleaned,
    sum(case when reasons <> '[]' then 1 else 0 end) as count_refused
  from {{ ref('customer_rows') }}
  group by _feed, _key, _etag
),

accepted as (
  select
    _feed,
    _key,
    _etag,
    sum(accepted) as count_accepted
  from {{ ref('customer_accepted') }}
  group by _feed, _key, _etag
),

final as (
  select
    ledger._feed as feed,
    ledger._key,
    ledger._etag,
    'row' as unit,
    cast(coalesce(received.count_received, 0) + coalesce(refused_in_reading.count_refused, 0) as bigint) as received,
    cast(coalesce(accepted.count_accepted, 0) as bigint) as accepted,
    cast(coalesce(refused_in_reading.count_refused, 0) + coalesce(cleaned.count_refused, 0) as bigint) as quarantined,
    cast(
      coalesce(cleaned.count_cleaned, 0) - coalesce(cleaned.count_refused, 0) - coalesce(accepted.count_accepted, 0)
      as bigint
    ) as duplicates
  from ledger
  left join received using (_feed, _key, _etag)
  left join refused_in_reading using (_feed, _key, _etag)
  left join cleaned using (_feed, _key, _etag)
  left join accepted using (_feed, _key, _etag)
)

select * from final
