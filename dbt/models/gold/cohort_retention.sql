{{ config(post_hook="{{ day_function(cohorts, [
  'as_of_day date', 'cohort_month date', 'months_since integer', 'count_customers bigint', 'count_active bigint', 'retention double',
]) }}") }}

-- depends_on: {{ ref('fct_orders') }}, {{ ref('fct_pos_lines') }}, {{ known_sales() }}
{{ cohorts(last_day_of_purchases()) }}
