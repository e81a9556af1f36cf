with

items as (
  select
    product_id,
    currency,
    count(distinct source || ':' || order_id) as count_orders,
    count(distinct customer_id) as count_customers,
    cast(sum(coalesce(quantity, 0)) as decimal(38, 4)) as units_sold,
    cast(sum(coalesce(amount, 0)) as decimal(38, 4)) as gross_revenue,
    cast(sum(coalesce(quantity * unit_cost, 0)) as decimal(38, 4)) as cost,
    count(unit_cost) as count_with_cost,
    count(*) as count_items,
    min(ordered_at) as first_sold_at,
    max(ordered_at) as last_sold_at
  from {{ ref('fct_order_items') }}
  where is_sale and product_id is not null
  group by product_id, currency
),

ranked as (
  select
    *,
    rank() over (partition by currency order by gross_revenue desc nulls last, product_id asc) as revenue_rank
  from items
),

stock as (
  select
    product_id,
    cast(sum(stock) as decimal(38, 4)) as stock,
    count(case when is_below_reorder_point then 1 end) as count_stores_to_reorder
  from {{ ref('inventory') }}
  group by product_id
),

-- A category is found by its name where the product has no id of it, and two may bear one name.
categories as (
  select
    product_id,
    category_id,
    category_name,
    row_number() over (partition by product_id order by category_id asc nulls last) as nth
  from {{ ref('product_categories') }}
  where is_primary
),

final as (
  select
    products.product_id,
    products.product_name,
    products.category_id,
    categories.category_name,
    products.price,
    products.currency as price_currency,
    products.supplier,
    ranked.currency,
    coalesce(ranked.count_orders, 0) as count_orders,
    coalesce(ranked.count_customers, 0) as count_customers,
    coalesce(ranked.units_sold, 0) as units_sold,
    coalesce(ranked.gross_revenue, 0) as gross_revenue,
    case
      when ranked.count_with_cost = ranked.count_items then cast(ranked.gross_revenue - ranked.cost as decimal(38, 4))
    end as margin,
    ranked.revenue_rank,
    ranked.first_sold_at,
    ranked.last_sold_at,
    stock.stock,
    coalesce(stock.count_stores_to_reorder, 0) as count_stores_to_reorder
  from {{ ref('product') }} as products
  left join categories
    on products.product_id = categories.product_id
    and categories.nth = 1
  left join ranked on products.product_id = ranked.product_id
  left join stock on products.product_id = stock.product_id
)

select * from final
