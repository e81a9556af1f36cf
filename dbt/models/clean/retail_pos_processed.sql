select
  _feed, _key, _etag, _row,
  store_id, transaction_id, line, kind,
  product_id, quantity, unit_price, amount, currency,
  customer_id, city, payment_method, refund_of,
  sold_at, sales_date
from {{ ref('pos_line_copies') }}
where _retracted_by is null
