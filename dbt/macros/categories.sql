{#-
  What categories sold. A product counts in the first category that it lists, by id or else by name, as its version at the
  time of the sale lists it; categories bear the name that they have now, or had at the end of the day that is asked for.
-#}

{#- Versions of products, each with its category, one of `categories`. Names are not unique: of several of one name the first one counts. -#}
{% macro products_in_categories(versions, categories) %}
  with

  products as (
    select
      *,
      {{ first_listed('category_id') }} as stated_category_id,
      {{ first_listed('category') }} as stated_category
    from {{ versions }} as versions
  ),

  categories as (
    select
      category_id,
      category_name
    from {{ categories }} as categories_there
  ),

  named as (
    select
      lower(category_name) as name,
      min(category_id) as category_id
    from categories
    group by lower(category_name)
  )

  select
    {{ version_key(['products.product_id'], 'products.valid_from') }} as product_key,
    products.product_id,
    products.product_name,
    coalesce(products.stated_category_id, named.category_id) as category_id,
    coalesce(categories.category_name, products.stated_category) as category_name,
    products.price,
    products.currency,
    products.cost,
    products.supplier,
    products.valid_from,
    products.valid_to,
    products.is_current,
    products.change_type,
    products.ended_by
  from products
  left join named on lower(products.stated_category) = named.name
  left join categories on coalesce(products.stated_category_id, named.category_id) = categories.category_id
{% endmacro %}

{#- What was sold and given back, in the shop and at the tills: one row per item and line. -#}
{% macro sales_in_categories(items, lines) %}
  select
    order_day as sales_date,
    category_id,
    currency,
    source,
    order_id,
    quantity as units,
    amount as revenue,
    0 as refunds
  from {{ items }}
  where
    is_sale
    and order_day is not null

  union all

  select
    sales_date,
    category_id,
    currency,
    'pos:' || store_id as source,
    case when kind = 'sale' then transaction_id end as order_id,
    case when kind = 'sale' then quantity else 0 end as units,
    case when kind = 'sale' then amount else 0 end as revenue,
    case when kind = 'refund' then amount else 0 end as refunds
  from {{ lines }}
{% endmacro %}

{#- Of such rows one per day, category and currency. -#}
{% macro sums_of_category_days(rows) %}
  select
    sales_date,
    category_id,
    currency,
    count(distinct source || '/' || order_id) as count_purchases,
    cast(sum(coalesce(units, 0)) as decimal(38, 4)) as units_sold,
    cast(sum(coalesce(revenue, 0)) as decimal(38, 4)) as gross_revenue,
    cast(sum(refunds) as decimal(38, 4)) as refunds,
    cast(sum(coalesce(revenue, 0) - refunds) as decimal(38, 4)) as net_revenue
  from {{ rows }}
  group by sales_date, category_id, currency
{% endmacro %}

{#- Such days with the name of their category, one of `categories`. -#}
{% macro days_with_names(days, categories) %}
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
  from {{ days }} as days
  left join {{ categories }} as categories on days.category_id = categories.category_id
{% endmacro %}

{#- The days of categories up to `day`, as products and categories were at its end. -#}
{% macro category_sales(day, known_at=none) %}
  with

  items as (
    select
      source,
      order_id,
      product_id,
      ordered_at,
      order_day,
      currency,
      is_sale,
      quantity,
      amount
    from {{ facts_of_order_items(known_at) }} as facts
    where order_day <= {{ day }}
  ),

  lines as (
    select
      store_id,
      transaction_id,
      kind,
      product_id,
      sold_at,
      sales_date,
      currency,
      quantity,
      amount
    from {{ facts_of_lines(known_at) }} as facts
    where sales_date <= {{ day }}
  ),

  sold as (
    select product_id, ordered_at as sold_at from items
    union all
    select product_id, sold_at from lines
  ),

  dated_products as (
    {{ products_in_categories(begun_by_end_of('product', day, known_at), held_at_end_of('category', day, known_at)) }}
  ),

  found as (
    select
      versions.product_id,
      versions.sold_at,
      dated_products.category_id
    from ({{ version_at('dated_products', 'product_id', 'sold', 'sold_at') }}) as versions
    inner join dated_products
      on versions.product_id = dated_products.product_id
      and versions.valid_from = dated_products.valid_from
  ),

  {%- for sold, sold_at in [('items', 'ordered_at'), ('lines', 'sold_at')] %}
  {{ sold }}_found as (
    select
      {{ sold }}.*,
      found.category_id
    from {{ sold }}
    left join found
      on {{ sold }}.product_id = found.product_id
      and {{ sold }}.{{ sold_at }} = found.sold_at
  ),
  {% endfor %}
  sales as (
    {{ sales_in_categories('items_found', 'lines_found') }}
  ),

  days as (
    {{ sums_of_category_days('sales') }}
  )

  {{ days_with_names('days', held_at_end_of('category', day, known_at)) }}
{% endmacro %}
