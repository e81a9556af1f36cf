select
  feed, _key, _etag, _row, column_name, rule, value, imputed_at
from {{ ref('imputed') }}
