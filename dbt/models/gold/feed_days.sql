select
  feed,
  cast(loaded_at as date) as loaded_on,
  count(*) as count_objects,
  cast(sum(received) as bigint) as received,
  cast(sum(accepted) as bigint) as accepted,
  cast(sum(quarantined) as bigint) as quarantined,
  cast(sum(duplicates) as bigint) as duplicates,
  max(loaded_at) as last_loaded_at
from {{ ref('object_account') }}
where unit = 'row'
group by feed, cast(loaded_at as date)
