select
  customer_id,
  event_time,
  op,
  row_number() over (partition by customer_id, event_time, op order by content) as nth,
  content,
  position,
  known_at,
  {{ c360.entity('customer').attributes | join(',\n  ') }},
  version_from,
  is_version,
  change_type,
  ended_by,
  _feed as feed,
  _key as object
from {{ ref('customer_log') }}
