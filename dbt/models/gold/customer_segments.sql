{{ config(post_hook="{{ day_function(customer_segments, [
  'as_of_day date', 'customer_id varchar', 'currency varchar', 'days_since_purchase integer', 'count_purchases bigint',
  'net_revenue decimal(38, 4)', 'recency_score integer', 'frequency_score integer', 'monetary_score integer', 'segment varchar',
]) }}") }}

-- depends_on: {{ ref('fct_orders') }}, {{ ref('fct_pos_lines') }}, {{ known_sales() }}
{{ customer_segments(last_day_of_purchases()) }}
