{{ config(post_hook="{{ day_function(segment_moves, [
  'customer_id varchar', 'currency varchar', 'before_day date', 'segment_before varchar', 'as_of_day date', 'segment varchar',
]) }}") }}

-- depends_on: {{ ref('fct_orders') }}, {{ ref('fct_pos_lines') }}, {{ known_sales() }}
{{ segment_moves(last_day_of_purchases()) }}
