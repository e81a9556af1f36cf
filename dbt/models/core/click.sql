{{ config(meta={'waits_for': ['accounting']}) }}

-- What is handed on waits for the accounting to add up: depends_on: {{ ref('accounting') }}
-- and for as many clicks as were accepted: depends_on: {{ ref('click_replaced') }}
select
  event_id, event_type, visitor, customer_id, session_id,
  product_id, amount, page_url, device_type,
  happened_at, happened_minute,
  _feed, _key, _etag, _row
from {{ ref('click_log') }}
where _ended_batch is null
