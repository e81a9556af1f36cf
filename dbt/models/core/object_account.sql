select
  feed, _key, _etag, unit, received, accepted, quarantined, duplicates, loaded_at
from {{ ref('accounting') }}
