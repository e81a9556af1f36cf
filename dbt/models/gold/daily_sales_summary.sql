{{ config(materialized='by_change', grain=['sales_date', 'store_id', 'currency'], upstream='pos_line_log') }}

-- depends_on: {{ ref('pos_line_log') }}
with

lines as (
  select * from {{ ref('pos_line') }}
),

touched as (
  select * from lines
  where
    kind in ('sale', 'refund')
    and {{ is_touched('lines') }}
),

final as (
  {{ sales_by_day('touched') }}
)

select * from final
