-- depends_on: {{ ref('fct_orders') }}, {{ ref('fct_pos_lines') }}
with

now_in as (
  {{ customer_segments(last_day_of_purchases()) }}
),

before_in as (
  {{ customer_segments('(' ~ last_day_of_purchases() ~ ' - ' ~ var('segment_move_days') ~ ')') }}
),

final as (
  select
    coalesce(now_in.customer_id, before_in.customer_id) as customer_id,
    coalesce(now_in.currency, before_in.currency) as currency,
    before_in.as_of_day as before_day,
    before_in.segment as segment_before,
    now_in.as_of_day,
    now_in.segment
  from now_in
  full outer join before_in
    on now_in.customer_id = before_in.customer_id
    and now_in.currency = before_in.currency
  where now_in.segment is distinct from before_in.segment
)

select * from final
