select
  days.sales_date,
  days.category_id,
  categories.category_name,
  days.currency,
  days.count_purchases,
  days.units_sold,
  days.gross_revenue,
  days.refunds,
  days.net_revenue
from {{ ref('product_category_days') }} as days
left join {{ ref('dim_category') }} as categories on days.category_id = categories.category_id
