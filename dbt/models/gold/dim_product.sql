with

products as (
  select
    *,
    {{ first_listed('category_id') }} as stated_category_id,
    {{ first_listed('category') }} as stated_category
  from {{ ref('product_history') }}
),

-- Names are not unique: of several categories of one name the first one counts.
named as (
  select
    lower(category_name) as name,
    min(category_id) as category_id
  from {{ ref('category') }}
  group by lower(category_name)
),

final as (
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
  left join {{ ref('category') }} as categories
    on coalesce(products.stated_category_id, named.category_id) = categories.category_id
)

select * from final
