{{ config(post_hook="{{ day_function(category_sales, [
  'sales_date date', 'category_id varchar', 'category_name varchar', 'currency varchar', 'count_purchases bigint',
  'units_sold decimal(38, 4)', 'gross_revenue decimal(38, 4)', 'refunds decimal(38, 4)', 'net_revenue decimal(38, 4)',
]) }}") }}

-- depends_on: {{ ref('fct_order_items') }}, {{ ref('fct_pos_lines') }}, {{ known_sales() }}
-- depends_on: {{ ref('product_history') }}, {{ ref('category_history') }}
{{ days_with_names(ref('product_category_days'), ref('dim_category')) }}
