-- Products below their reorder point, the emptiest first.
select
  store_id,
  product_id,
  stock,
  counted_at,
  is_negative
from {{ ref('inventory') }}
where is_below_reorder_point
order by stock, store_id, product_id
limit 12
