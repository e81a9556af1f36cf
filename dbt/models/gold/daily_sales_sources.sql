select
  sales_date,
  store_id,
  currency,
  _feed as feed,
  _key,
  _etag,
  count(*) as count_lines,
  max(_batch) as batch
from {{ ref('pos_line_log') }}
where
  _ended_batch is null
  and kind in ('sale', 'refund')
group by sales_date, store_id, currency, _feed, _key, _etag
