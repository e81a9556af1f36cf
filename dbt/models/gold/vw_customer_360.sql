{{ config(pre_hook="{{ ensure_customer_value() }}") }}

with

versions as (
  select
    customer_id,
    count(*) as count_versions,
    min(valid_from) as customer_since,
    max(valid_from) as last_changed_at
  from {{ ref('customer_history') }}
  group by customer_id
),

-- Money of several currencies does not add up: the one in which most was bought stands for the customer.
sales as (
  select
    customer_id,
    currency,
    count_purchases,
    net_revenue,
    gross_revenue,
    row_number() over (
      partition by customer_id
      order by count_purchases desc nulls last, gross_revenue desc nulls last, currency asc
    ) as place,
    count(*) over (partition by customer_id) as count_currencies,
    sum(count_purchases) over (partition by customer_id) as count_orders,
    min(first_bought_at) over (partition by customer_id) as first_order_at,
    max(last_bought_at) over (partition by customer_id) as last_order_at
  from {{ ref('customer_sales') }}
),

segments as (
  select * from {{ ref('customer_segments') }}
),

risks as (
  select
    customer_id,
    currency,
    churn_risk,
    row_number() over (partition by customer_id, currency order by as_of desc nulls last) as place
  from {{ customer_value() }}
),

tickets as (
  select
    customer_id,
    count(*) as count_tickets,
    count(case when lower(coalesce(status, '')) not in ('closed', 'resolved') then 1 end) as count_open_tickets,
    max(created_at) as last_ticket_at
  from {{ ref('support_ticket') }}
  where customer_id is not null
  group by customer_id
),

clicks as (
  select * from {{ ref('customer_clicks') }}
),

final as (
  select
    customers.*,
    versions.customer_since,
    versions.last_changed_at,
    versions.count_versions,
    coalesce(sales.count_orders, 0) as count_orders,
    sales.currency,
    coalesce(sales.count_currencies, 0) as count_currencies,
    sales.gross_revenue,
    sales.net_revenue,
    case
      when sales.count_purchases > 0
        then cast(cast(sales.gross_revenue as double) / sales.count_purchases as decimal(38, 4))
    end as average_order,
    sales.first_order_at,
    sales.last_order_at,
    segments.segment,
    risks.churn_risk,
    coalesce(tickets.count_tickets, 0) as count_tickets,
    coalesce(tickets.count_open_tickets, 0) as count_open_tickets,
    tickets.last_ticket_at,
    clicks.count_sessions,
    clicks.count_page_views,
    clicks.count_carts,
    clicks.last_click_at,
    greatest(
      versions.last_changed_at,
      coalesce(sales.last_order_at, versions.last_changed_at),
      coalesce(tickets.last_ticket_at, versions.last_changed_at),
      coalesce(clicks.last_click_at, versions.last_changed_at)
    ) as last_seen_at
  from {{ ref('customer') }} as customers
  inner join versions on customers.customer_id = versions.customer_id
  left join sales on customers.customer_id = sales.customer_id and sales.place = 1
  left join segments
    on sales.customer_id = segments.customer_id
    and sales.currency = segments.currency
  left join risks
    on sales.customer_id = risks.customer_id
    and sales.currency = risks.currency
    and risks.place = 1
  left join tickets on customers.customer_id = tickets.customer_id
  left join clicks on customers.customer_id = clicks.customer_id
)

select * from final
