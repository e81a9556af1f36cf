{{ config(post_hook="{{ day_function(affinity, [
  'as_of_day date', 'product_id varchar', 'other_product_id varchar', 'count_both bigint', 'support double',
  'confidence double', 'confidence_of_other double', 'lift double',
]) }}") }}

-- depends_on: {{ ref('fct_order_items') }}, {{ ref('fct_pos_lines') }}, {{ ref('fct_orders') }}, {{ known_sales() }}
{{ affinity(last_day_of_purchases()) }}
