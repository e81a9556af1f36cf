{{ config(meta={'waits_for': ['accounting']}) }}

-- What is handed on waits for the accounting to add up: depends_on: {{ ref('accounting') }}
-- and for as many lines as were accepted: depends_on: {{ ref('pos_line_replaced') }}
select
  store_id, transaction_id, line, kind,
  product_id, quantity, unit_price, amount, currency,
  customer_id, city, payment_method, refund_of,
  sold_at, sales_date,
  _feed, _key, _etag, _row
from {{ ref('pos_line_log') }}
where _ended_batch is null
