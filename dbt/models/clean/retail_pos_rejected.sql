with

refused as (
  select * from {{ ref('pos_line_rows') }}
  where reasons <> '[]'
),

superseded as (
  select * from {{ ref('superseded_objects') }}
),

final as (
  select
    refused._feed, refused._key, refused._etag, refused._row,
    refused.store_id, refused.transaction_id,
    case when refused.line >= 0 then refused.line end as line,
    refused.product_id, refused.quantity, refused.unit_price, refused.currency,
    refused.sold_at, refused.reasons, refused.raw
  from refused
  left join superseded
    on refused._feed = superseded._feed
    and refused._key = superseded._key
    and refused._etag = superseded._etag
    and refused._loaded_batch = superseded._loaded_batch
  where superseded._key is null
)

select * from final
