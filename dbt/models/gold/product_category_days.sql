{{ config(
    materialized='by_change',
    grain=['sales_date', 'category_id', 'currency'],
    upstream=['fct_order_items', 'fct_pos_lines'],
    touched='touched_category_days',
) }}

with

sales as (
  {{ sales_in_categories(ref('fct_order_items'), ref('fct_pos_lines')) }}
),

touched as (
  select * from sales
  where {{ is_touched('sales') }}
),

final as (
  {{ sums_of_category_days('touched') }}
)

select * from final
