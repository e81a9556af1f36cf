with

ranked as (
  select
    *,
    rank() over (partition by currency order by net_revenue desc) as revenue_rank
  from {{ ref('customer_sales') }}
),

final as (
  select
    ranked.currency,
    ranked.revenue_rank,
    ranked.customer_id,
    customers.first_name,
    customers.last_name,
    customers.email,
    customers.country,
    customers.customer_id is not null as is_known,
    ranked.count_purchases,
    ranked.gross_revenue,
    ranked.refunds,
    ranked.net_revenue,
    ranked.first_bought_at,
    ranked.last_bought_at
  from ranked
  left join {{ ref('customer') }} as customers on ranked.customer_id = customers.customer_id
  where ranked.revenue_rank <= {{ var('count_top_customers') }}
)

select * from final
