select
  {{ version_key(['customer_id'], 'valid_from') }} as customer_key,
  *
from {{ ref('customer_history') }}
