-- What the categories brought, and which share of the whole.
select
  currency,
  coalesce(category_name, category_id, 'without a category') as category,
  sum(units_sold) as units_sold,
  sum(net_revenue) as net_revenue,
  round(
    100 * cast(sum(net_revenue) as double) / nullif(sum(sum(net_revenue)) over (partition by currency), 0), 1
  ) as share_percent
from {{ ref('product_category_sales') }}
group by currency, coalesce(category_name, category_id, 'without a category')
order by currency asc, net_revenue desc, category asc
limit 12
