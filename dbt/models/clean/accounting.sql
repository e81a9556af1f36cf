with

ledger as (
  select
    feed as _feed,
    key as _key,
    etag as _etag,
    min(loaded_at) as loaded_at
  from {{ source('staging', 'object_ledger') }}
  where status <> 'gone'
  group by feed, key, etag
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

lines as (
  select
    *,
    {{ unit_of_line('_feed') }} as unit
  from {{ ref('pos_line_rows') }}
),

-- Feeds of no entity are taken as they are: what could be read is accepted.
taken_as_is as (
  {{ received_per_object(taken_as_is=true) }}
),

cleaned as (
  {%- for entity in var('entities') + var('streams') %}
  select
    _feed, _key, _etag,
    'row' as unit,
    count(*) as count_cleaned,
    sum(case when reasons <> '[]' then 1 else 0 end) as count_refused
  from {{ ref(entity ~ '_rows') }}
  group by _feed, _key, _etag

  union all
  {% endfor %}

  select
    _feed, _key, _etag, unit,
    count(*) as count_cleaned,
    sum(case when reasons <> '[]' then 1 else 0 end) as count_refused
  from lines
  where line >= 0
  group by _feed, _key, _etag, unit

  union all

  select
    _feed, _key, _etag,
    'row' as unit,
    count(*) as count_cleaned,
    sum(case when reasons <> '[]' then 1 else 0 end) as count_refused
  from {{ ref('pos_receipts') }}
  group by _feed, _key, _etag

  union all

  select
    _feed, _key, _etag,
    'row' as unit,
    count_received as count_cleaned,
    0 as count_refused
  from taken_as_is
),

accepted as (
  {%- for entity in var('entities') + var('streams') %}
  select
    _feed, _key, _etag,
    'row' as unit,
    sum(accepted) as count_accepted
  from {{ ref(entity ~ '_accepted') }}
  group by _feed, _key, _etag

  union all
  {% endfor %}

  select
    _feed, _key, _etag,
    {{ unit_of_line('_feed') }} as unit,
    sum(accepted) as count_accepted
  from {{ ref('pos_line_accepted') }}
  group by _feed, _key, _etag

  union all

  select
    _feed, _key, _etag,
    'row' as unit,
    sum(accepted) as count_accepted
  from {{ ref('pos_receipt_accepted') }}
  group by _feed, _key, _etag

  union all

  select
    _feed, _key, _etag,
    'row' as unit,
    count_received as count_accepted
  from taken_as_is
),

counted as (
  select
    *,
    'row' as unit
  from ledger

  union all

  select
    *,
    'line' as unit
  from ledger
  where {{ unit_of_line('_feed') }} = 'line'
),

final as (
  select
    counted._feed as feed,
    counted._key,
    counted._etag,
    counted.unit,
    cast(
      case
        when counted.unit = 'line' then coalesce(cleaned.count_cleaned, 0)
        else coalesce(received.count_received, 0) + coalesce(refused_in_reading.count_refused, 0)
      end as bigint
    ) as received,
    cast(coalesce(accepted.count_accepted, 0) as bigint) as accepted,
    cast(
      case when counted.unit = 'row' then coalesce(refused_in_reading.count_refused, 0) else 0 end
      + coalesce(cleaned.count_refused, 0) as bigint
    ) as quarantined,
    cast(
      coalesce(cleaned.count_cleaned, 0) - coalesce(cleaned.count_refused, 0) - coalesce(accepted.count_accepted, 0)
      as bigint
    ) as duplicates,
    counted.loaded_at
  from counted
  left join received using (_feed, _key, _etag)
  left join refused_in_reading using (_feed, _key, _etag)
  left join cleaned using (_feed, _key, _etag, unit)
  left join accepted using (_feed, _key, _etag, unit)
)

select * from final
