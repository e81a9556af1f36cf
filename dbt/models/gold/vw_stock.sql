{%- set days = 28 %}
with

-- What a wrong clock dates ahead is no last day.
last_day as (
  select max(sales_date) as sales_date
  from {{ ref('fct_pos_lines') }}
  where sold_at <= {{ newest_known(['pos_line_log']) }}
),

sold as (
  select
    lines.store_id,
    lines.product_id,
    cast(sum(lines.quantity) as decimal(38, 4)) as units_sold_lately
  from {{ ref('fct_pos_lines') }} as lines
  inner join last_day
    on lines.sales_date > last_day.sales_date - {{ days }}
    and lines.sales_date <= last_day.sales_date
  where lines.kind = 'sale'
  group by lines.store_id, lines.product_id
),

products as (
  select
    product_id,
    product_name,
    category_name
  from {{ ref('dim_product') }}
  where is_current
),

final as (
  select
    stock.store_id,
    stock.product_id,
    products.product_name,
    products.category_name,
    stock.stock,
    cast({{ var('reorder_point') }} as decimal(38, 4)) as reorder_point,
    stock.is_below_reorder_point,
    stock.is_negative,
    cast(
      case when stock.is_below_reorder_point then {{ var('reorder_point') }} - stock.stock else 0 end as decimal(38, 4)
    ) as units_short,
    coalesce(sold.units_sold_lately, 0) as units_sold_lately,
    -- At the pace of those days; none where nothing is left.
    case
      when stock.stock <= 0 then 0
      when sold.units_sold_lately > 0 then round(cast(stock.stock as double) * {{ days }} / sold.units_sold_lately, 1)
    end as days_left,
    stock.counted_at,
    stock.last_moved_at
  from {{ ref('inventory') }} as stock
  left join products on stock.product_id = products.product_id
  left join sold
    on stock.store_id = sold.store_id
    and stock.product_id = sold.product_id
)

select * from final
