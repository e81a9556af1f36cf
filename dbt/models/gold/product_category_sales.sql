{{ config(post_hook="{{ day_function(category_sales, [
  'sales_date date', 'category_id varchar', 'category_name varchar', 'currency varchar', 'count_purchases bigint',
  'units_sold decimal(38, 4)', 'gross_revenue decimal(38, 4)', 'refunds decimal(38, 4)', 'net_revenue decimal(38, 4)',
]) }}") }}

-- depends_on: {{ ref('fct_order_items') }}, {{ ref('fct_pos_lines') }}, {{ known_sales() }}
-- depends_on: {{ ref('product_history') }}, {{ ref('category_history') }}
select
  days.sales_date,
  days.category_id,
  categories.category_name,
  days.currency,
  days.count_purchases,
  days.units_sold,
  days.gross_revenue,
  days.refunds,
  days.net_revenue
from {{ ref('product_category_days') }} as days
left join {{ ref('dim_category') }} as categories on days.category_id = categories.category_id
