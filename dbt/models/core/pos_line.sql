{{ config(meta={'waits_for': ['accounting']}, post_hook="{{ latest_function('pos_line', ref('pos_line_copies')) }}") }}

-- What is handed on waits for the accounting to add up: depends_on: {{ ref('accounting') }}
-- and for as many lines as were accepted: depends_on: {{ ref('pos_line_replaced') }}
-- What was known at an instant is told by the copies: depends_on: {{ ref('pos_line_copies') }}
select
  store_id, transaction_id, line, kind,
  product_id, quantity, unit_price, amount, currency,
  customer_id, city, payment_method, refund_of,
  sold_at, sales_date,
  _feed, _key, _etag, _row
from {{ ref('pos_line_log') }}
where _ended_batch is null
