{{ config(post_hook="{{ day_function(top_customers, [
  'currency varchar', 'revenue_rank bigint', 'customer_id varchar', 'first_name varchar', 'last_name varchar', 'email varchar',
  'country varchar', 'is_known boolean', 'count_purchases bigint', 'gross_revenue decimal(38, 4)', 'refunds decimal(38, 4)',
  'net_revenue decimal(38, 4)', 'first_bought_at ' ~ timestamp_type(), 'last_bought_at ' ~ timestamp_type(),
]) }}") }}

-- depends_on: {{ ref('customer_sales') }}, {{ ref('customer') }}, {{ ref('customer_history') }}
-- depends_on: {{ ref('fct_orders') }}, {{ ref('fct_pos_lines') }}, {{ known_sales() }}
{{ top_customers() }}
