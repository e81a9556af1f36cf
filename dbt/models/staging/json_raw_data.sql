select
  payload,
  _loaded_at as received_at
from {{ source('staging', 'pos') }}
