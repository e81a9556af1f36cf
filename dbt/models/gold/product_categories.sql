with

products as (
  select
    product_id,
    coalesce(category_id, category) as listed,
    category_id is not null as is_id
  from {{ ref('product') }}
),

places as (
  {%- for place in range(1, 11) %}
  select
    product_id,
    is_id,
    {{ place }} as place,
    {{ listed('listed', place) }} as stated
  from products
  {{ 'union all' if not loop.last }}
  {%- endfor %}
),

-- Names are not unique: of several categories of one name the first one counts, as in dim_product.
named as (
  select
    lower(category_name) as name,
    min(category_id) as category_id
  from {{ ref('category') }}
  group by lower(category_name)
),

told as (
  select
    places.*,
    case when places.is_id then places.stated else named.category_id end as category_id
  from places
  left join named
    on not places.is_id
    and lower(places.stated) = named.name
  where places.stated is not null
),

final as (
  select
    told.product_id,
    told.place,
    told.category_id,
    coalesce(categories.category_name, case when not told.is_id then told.stated end) as category_name,
    told.place = 1 as is_primary
  from told
  left join {{ ref('category') }} as categories on told.category_id = categories.category_id
)

select * from final
