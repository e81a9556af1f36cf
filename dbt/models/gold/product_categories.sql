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

final as (
  select
    places.product_id,
    places.place,
    coalesce(categories.category_id, case when places.is_id then places.stated end) as category_id,
    coalesce(categories.category_name, case when not places.is_id then places.stated end) as category_name,
    places.place = 1 as is_primary
  from places
  left join {{ ref('category') }} as categories
    on (places.is_id and places.stated = categories.category_id)
    or (not places.is_id and lower(places.stated) = lower(categories.category_name))
  where places.stated is not null
)

select * from final
