{{ config(post_hook="{{ day_function(anomalies, [
  'sales_date date', 'store_id varchar', 'currency varchar', 'actual decimal(38, 4)', 'expected decimal(38, 4)',
  'count_days_before bigint', 'score double', 'direction varchar',
]) }}") }}

-- depends_on: {{ ref('daily_sales_summary') }}, {{ ref('dim_date') }}, {{ ref('pos_line') }}
{{ anomalies() }}
