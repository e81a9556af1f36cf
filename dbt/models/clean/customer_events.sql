with

rows_taken as (
  select * from {{ ref('customer_rows') }}
  where reasons = '[]'
),

superseded as (
  select * from {{ ref('superseded_objects') }}
),

final as (
  select
    rows_taken.*,
    superseded._retracted_by
  from rows_taken
  left join superseded
    on rows_taken._feed = superseded._feed
    and rows_taken._key = superseded._key
    and rows_taken._etag = superseded._etag
    and rows_taken._loaded_batch = superseded._loaded_batch
)

select * from final
