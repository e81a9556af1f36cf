{{ config(
    materialized='by_change',
    grain=['customer_id', 'currency'],
    upstream=['fct_orders', 'fct_pos_lines'],
) }}

-- depends_on: {{ ref('fct_orders') }}, {{ ref('fct_pos_lines') }}
with

purchases as (
  {{ purchases() }}
),

touched as (
  select * from purchases
  where {{ is_touched('purchases') }}
),

final as (
  {{ sales_of_customers('touched') }}
)

select * from final
