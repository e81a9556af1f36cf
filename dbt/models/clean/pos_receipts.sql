{{ config(
    materialized='by_batch',
    after='pos_line_rows',
    unique_key=['_feed', '_key', '_etag', '_row', '_loaded_batch'],
    record=['_feed', '_key', '_etag', '_row', '_loaded_batch'],
    final="reasons = '[]'",
) }}

with

lines as (
  select * from {{ ref('pos_line_rows') }}
  where record is not null
),

-- All lines of a receipt of which some come now: the rest of it may have been taken before.
receipts_of_now as (
  select distinct _feed, _key, _etag, _row, _loaded_batch
  from lines
  where _batch in (select b.batch from {{ new_batches() }} as b)
),

final as (
  select
    lines._feed,
    lines._key,
    lines._etag,
    lines._row,
    lines._loaded_batch,
    max(lines._batch) as _batch,
    max(lines.record) as record,
    case when max(case when lines.reasons = '[]' then 1 else 0 end) = 1 then '[]' else max(lines.reasons) end as reasons
  from lines
  inner join receipts_of_now
    on lines._feed = receipts_of_now._feed
    and lines._key = receipts_of_now._key
    and lines._etag = receipts_of_now._etag
    and lines._row = receipts_of_now._row
    and lines._loaded_batch = receipts_of_now._loaded_batch
  group by lines._feed, lines._key, lines._etag, lines._row, lines._loaded_batch
)

select * from final
