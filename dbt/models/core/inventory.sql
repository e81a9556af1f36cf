{{ config(
    materialized='by_change',
    grain=['store_id', 'product_id'],
    upstream=['pos_line_log', 'stock_count_log'],
    touched='touched_stock',
) }}

-- depends_on: {{ ref('pos_line_log') }}, {{ ref('stock_count_log') }}, {{ ref('stock_count_changes') }}
with

lines as (
  select * from {{ ref('pos_line') }}
),

-- Of an instant the event that won.
counts as (
  select * from {{ ref('stock_count_log') }}
  where next_at is null or next_at > event_time
),

-- What a receipt sold: a refund that names no goods gives it all back, or we cannot know what.
receipts as (
  select
    store_id,
    transaction_id,
    currency,
    sum(amount) as amount
  from lines
  where kind = 'sale'
  group by store_id, transaction_id, currency
),

refunds as (
  select
    lines.store_id,
    lines.refund_of as transaction_id,
    min(lines.sold_at) as refunded_at
  from lines
  inner join receipts
    on lines.store_id = receipts.store_id
    and lines.refund_of = receipts.transaction_id
    and lines.currency = receipts.currency
  where
    lines.kind = 'refund'
    and lines.product_id is null
    and lines.amount >= receipts.amount
  group by lines.store_id, lines.refund_of
),

moves as (
  select
    store_id,
    product_id,
    sold_at as moved_at,
    case kind when 'sale' then quantity else 0 end as sold,
    case kind when 'refund' then quantity else 0 end as returned
  from lines
  where
    product_id is not null
    and {{ is_touched('lines') }}

  union all

  select
    lines.store_id,
    lines.product_id,
    refunds.refunded_at as moved_at,
    0 as sold,
    lines.quantity as returned
  from lines
  inner join refunds
    on lines.store_id = refunds.store_id
    and lines.transaction_id = refunds.transaction_id
  where
    lines.kind = 'sale'
    and {{ is_touched('lines') }}
),

-- The last count that stands. One that repeats the number before it resets the stock all the same.
last_counts as (
  select
    store_id,
    product_id,
    max(event_time) as counted_at
  from counts
  where
    op = 'upsert'
    and quantity is not null
    and {{ is_touched('counts') }}
  group by store_id, product_id
),

counted as (
  select
    last_counts.store_id,
    last_counts.product_id,
    last_counts.counted_at,
    counts.quantity
  from last_counts
  inner join counts
    on last_counts.store_id = counts.store_id
    and last_counts.product_id = counts.product_id
    and last_counts.counted_at = counts.event_time
),

-- What was seen of a product: without a count its stock begins full.
seen as (
  select
    store_id,
    product_id,
    min(moved_at) as first_seen_at
  from (
    select store_id, product_id, moved_at from moves
    union all
    select store_id, product_id, counted_at as moved_at from counted
  ) as instants
  group by store_id, product_id
),

summed as (
  select
    seen.store_id,
    seen.product_id,
    seen.first_seen_at,
    counted.counted_at,
    counted.quantity as counted_quantity,
    max(moves.moved_at) as last_moved_at,
    coalesce(
      sum(case when counted.counted_at is null or moves.moved_at > counted.counted_at then moves.sold end), 0
    ) as units_sold,
    coalesce(
      sum(case when counted.counted_at is null or moves.moved_at > counted.counted_at then moves.returned end), 0
    ) as units_returned
  from seen
  left join counted
    on seen.store_id = counted.store_id
    and seen.product_id = counted.product_id
  left join moves
    on seen.store_id = moves.store_id
    and seen.product_id = moves.product_id
  group by seen.store_id, seen.product_id, seen.first_seen_at, counted.counted_at, counted.quantity
),

stocked as (
  select
    *,
    coalesce(counted_quantity, {{ var('opening_stock') }}) - units_sold + units_returned as stock
  from summed
),

final as (
  select
    store_id,
    product_id,
    cast(stock as decimal(38, 4)) as stock,
    stock < {{ var('reorder_point') }} as is_below_reorder_point,
    stock < 0 as is_negative,
    counted_at,
    cast(counted_quantity as decimal(18, 4)) as counted_quantity,
    cast(units_sold as decimal(38, 4)) as units_sold,
    cast(units_returned as decimal(38, 4)) as units_returned,
    first_seen_at,
    last_moved_at
  from stocked
)

select * from final
