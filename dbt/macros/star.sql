{#- What the star is joined by: keys of versions, the version at an instant, orders whatever feed they came by. -#}

{#- The readable key of a version: the key and since when it holds; null where either is. -#}
{% macro version_key(key, valid_from) -%}
  {{ key | join(" || '/' || ") }} || '@' || {{ timestamp_text(valid_from) }}
{%- endmacro %}

{#-
  For each key and instant of `rows` which of the `versions` held then: key, instant, `valid_from`, `match`
  (`version`; `later`, where the first version begins only afterwards: it stands for what was there; `gap`, after a delete).
  A key that has none has no row: nobody is invented.
-#}
{% macro version_at(versions, key, rows, instant) -%}
  {%- set held = 'versions.valid_from <= asked.' ~ instant ~ ' and (versions.valid_to is null or versions.valid_to > asked.' ~ instant ~ ')' %}
  select
    asked.{{ key }},
    asked.{{ instant }},
    coalesce(
      max(case when {{ held }} then versions.valid_from end),
      case when min(versions.valid_from) > asked.{{ instant }} then min(versions.valid_from) end
    ) as valid_from,
    case
      when max(case when {{ held }} then 1 end) = 1 then 'version'
      when min(versions.valid_from) > asked.{{ instant }} then 'later'
      else 'gap'
    end as match
  from (
    select distinct {{ key }}, {{ instant }} from {{ rows }} where {{ key }} is not null and {{ instant }} is not null
  ) as asked
  inner join {{ versions }} as versions on asked.{{ key }} = versions.{{ key }}
  group by asked.{{ key }}, asked.{{ instant }}
{%- endmacro %}

{#- How a fact found its member. Of one whose instant is not known yet nobody can tell which version, or whether any, is meant. -#}
{% macro match_of(key, instant, versions) -%}
  case
    when {{ key }} is null then 'none'
    when {{ instant }} is null then 'undated'
    when {{ versions }}.match is null then 'unknown'
    else {{ versions }}.match
  end
{%- endmacro %}

{#- Orders of both feeds, one row per source and order; as they were known, where `known_at` is given. What was cancelled or came
    back is no sale. -#}
{% macro orders_placed(known_at=none) %}
  {%- set no_sale = "('" ~ (var('statuses_without_sale') | join("', '")) ~ "')" %}
  select
    'orders' as source,
    order_id,
    customer_id,
    order_date as ordered_at,
    order_status,
    payment_method,
    coalesce(currency, '{{ var('shop_currency') }}') as currency,
    order_amount,
    lower(coalesce(order_status, '')) not in {{ no_sale }} as is_sale
  from {{ standing('shop_order', known_at) }} as orders

  union all

  select
    'transactions' as source,
    transaction_id as order_id,
    customer_id,
    order_date as ordered_at,
    order_status,
    payment_method,
    coalesce(currency, '{{ var('shop_currency') }}') as currency,
    total_amount as order_amount,
    lower(coalesce(order_status, '')) not in {{ no_sale }} as is_sale
  from {{ standing('shop_transaction', known_at) }} as transactions
{% endmacro %}

{#- The items of those orders. -#}
{% macro items_ordered(known_at=none) %}
  select
    'orders' as source,
    order_item_id,
    order_id,
    product_id,
    quantity,
    price as unit_price
  from {{ standing('order_item', known_at) }} as items

  union all

  select
    'transactions' as source,
    transaction_id as order_item_id,
    transaction_id as order_id,
    product_id,
    quantity,
    unit_price
  from {{ standing('shop_transaction', known_at) }} as transactions
{% endmacro %}

{% macro amount_of_item() -%}
  cast(quantity * unit_price as decimal(38, 4))
{%- endmacro %}

{#- What an order says of itself counts before the sum of its items. -#}
{% macro total_of_order(orders, items) -%}
  cast(coalesce({{ orders }}.order_amount, {{ items }}.items_amount) as decimal(38, 4))
{%- endmacro %}

{#- A member of a list in text, separated by ; or |, trimmed; null where there is none. -#}
{% macro listed(text, place) -%}
  nullif(trim(split_part(replace({{ text }}, '|', ';'), ';', {{ place }})), '')
{%- endmacro %}
{% macro first_listed(text) %}{{ listed(text, 1) }}{% endmacro %}
