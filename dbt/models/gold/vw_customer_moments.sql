select
  customer_id,
  ordered_at as happened_at,
  'order' as kind,
  source || '/' || order_id as which,
  order_status as state,
  currency,
  amount
from {{ ref('fct_orders') }}
where
  customer_id is not null
  and ordered_at is not null

union all

select
  customer_id,
  max(sold_at) as happened_at,
  case kind when 'sale' then 'receipt' else 'refund' end as kind,
  store_id || '/' || transaction_id as which,
  cast(null as varchar) as state,
  currency,
  cast(sum(amount) as decimal(38, 4)) as amount
from {{ ref('fct_pos_lines') }}
where customer_id is not null
group by customer_id, kind, store_id, transaction_id, currency

union all

select
  customer_id,
  created_at as happened_at,
  'ticket' as kind,
  ticket_id as which,
  status as state,
  cast(null as varchar) as currency,
  cast(null as decimal(38, 4)) as amount
from {{ ref('support_ticket') }}
where
  customer_id is not null
  and created_at is not null

union all

select
  customer_id,
  started_at as happened_at,
  'visit' as kind,
  visitor || '/' || cast(session_number as varchar) as which,
  cast(count_page_views as varchar) || ' pages, ' || cast(count_carts as varchar) || ' to the cart' as state,
  cast(null as varchar) as currency,
  cast(null as decimal(38, 4)) as amount
from {{ ref('click_session') }}
where customer_id is not null
