{{ config(materialized='table') }}

with

orders as (
  {{ vault_latest(ref('sat_order'), 'order_hk') }}
),

customers as (
  {{ vault_latest(ref('eff_customer_order'), 'order_hk') }}
),

lines as (
  {{ vault_latest(ref('eff_order_product'), 'line_hk') }}
),

final as (
  select
    orders.order_hk,
    orders.order_date as moment,
    customer_links.customer_order_hk,
    customer_links.customer_hk,
    lines.line_hk,
    product_links.order_product_hk,
    product_links.product_hk
  from orders
  inner join customers on orders.order_hk = customers.order_hk
  inner join {{ ref('link_customer_order') }} as customer_links on customers.customer_order_hk = customer_links.customer_order_hk
  left join {{ ref('link_order_product') }} as product_links on orders.order_hk = product_links.order_hk
  left join lines on product_links.order_product_hk = lines.order_product_hk
  where product_links.order_hk is null or lines.line_hk is not null
)

select * from final
