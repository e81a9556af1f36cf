select
  category_id,
  category_name,
  valid_from
from {{ ref('category') }}
