select
  feed, _key, _etag, _row, line, stage, reasons, refused_at
from {{ ref('quarantine') }}
