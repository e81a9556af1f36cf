{{ config(materialized='table') }}

with

orders as (
  {{ vault_latest(ref('sat_order'), 'order_hk') }}
),

customers as (
  {{ vault_latest(ref('eff_customer_order'), 'order_hk') }}
),

events as (
  {{ vault_events(ref('sat_customer'), 'customer_hk') }}
),

moments as (
  select distinct
    links.customer_hk,
    orders.order_date as moment
  from orders
  inner join customers on orders.order_hk = customers.order_hk
  inner join {{ ref('link_customer_order') }} as links on customers.customer_order_hk = links.customer_order_hk
  where orders.order_date is not null
),

final as (
  select
    moments.customer_hk,
    moments.moment,
    coalesce(max(events.applied_at), cast('1900-01-01' as {{ timestamp_type() }})) as sat_customer_applied_at
  from moments
  left join events
    on moments.customer_hk = events.customer_hk
    and events.applied_at <= moments.moment
  group by moments.customer_hk, moments.moment
)

select * from final
