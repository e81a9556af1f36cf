with

orders as (
  select
    *,
    row_number() over (partition by customer_id order by ordered_at, source, order_id) as place,
    lag(ordered_at) over (partition by customer_id order by ordered_at, source, order_id) as previous_at
  from {{ ref('fct_orders') }}
  where is_sale and customer_id is not null and ordered_at is not null
),

final as (
  select
    facts.source,
    facts.order_id,
    facts.customer_id,
    facts.customer_key,
    facts.customer_match,
    customers.city as customer_city,
    customers.country as customer_country,
    customers.customer_segment,
    facts.ordered_at,
    facts.order_day,
    facts.order_status,
    facts.is_sale,
    facts.payment_method,
    facts.currency,
    facts.amount,
    facts.order_amount,
    facts.items_amount,
    facts.count_items,
    facts.units,
    orders.place as order_number,
    cast(cast(orders.ordered_at as date) - cast(orders.previous_at as date) as integer) as days_since_previous
  from {{ ref('fct_orders') }} as facts
  left join orders on facts.source = orders.source and facts.order_id = orders.order_id
  left join {{ ref('dim_customer') }} as customers on facts.customer_key = customers.customer_key
)

select * from final
