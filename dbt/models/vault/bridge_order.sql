{{ config(materialized='table') }}

with

orders as (
  {{ vault_latest(ref('sat_order'), 'order_hk') }}
),

customers as (
  {{ vault_latest(ref('eff_customer_order'), 'order_hk') }}
),

in_force as (
  {{ vault_latest(ref('eff_order_product'), 'line_hk') }}
),

-- Of a line that moved, or was deleted, the link to its former order stays.
lines as (
  select in_force.line_hk, links.order_hk, links.order_product_hk, links.product_hk
  from in_force
  inner join {{ ref('link_order_product') }} as links on in_force.order_product_hk = links.order_product_hk
),

final as (
  select
    orders.order_hk,
    orders.order_date as moment,
    customer_links.customer_order_hk,
    customer_links.customer_hk,
    lines.line_hk,
    lines.order_product_hk,
    lines.product_hk
  from orders
  inner join customers on orders.order_hk = customers.order_hk
  inner join {{ ref('link_customer_order') }} as customer_links on customers.customer_order_hk = customer_links.customer_order_hk
  left join lines on orders.order_hk = lines.order_hk
)

select * from final
