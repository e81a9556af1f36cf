with

issues as (
  select
    'refused' as issue,
    'error' as severity,
    'staging.' || feed as subject,
    _key || case when _row > 0 then ' record ' || cast(_row as varchar) else '' end
    || case when line is not null then ' line ' || cast(line as varchar) else '' end as which,
    reasons as detail,
    refused_at as noted_at
  from {{ ref('refusal') }}

  union all

  select
    'dead_letter' as issue,
    'error' as severity,
    source || ' ' || stream as subject,
    part || '/' || position as which,
    reason as detail,
    refused_at as noted_at
  from {{ ref('dead_letter') }}

  union all

  select
    'imputed' as issue,
    'note' as severity,
    'staging.' || feed as subject,
    _key as which,
    cast(count(*) as varchar) || ' records without ' || column_name || ' were given: ' || rule as detail,
    max(imputed_at) as noted_at
  from {{ ref('imputed_value') }}
  group by feed, _key, column_name, rule

  {% for entity in var('entities') -%}
  union all

  select
    'tie' as issue,
    'warning' as severity,
    'core.{{ entity }}' as subject,
    {{ c360.entity(entity).key | join(" || '/' || ") }} as which,
    'several events at one instant; the rule that decided: ' || rule as detail,
    event_time as noted_at
  from {{ ref(entity ~ '_ties') }}

  {% endfor -%}
  union all

  select
    'replaced' as issue,
    'note' as severity,
    'core.pos_line' as subject,
    store_id || '/' || transaction_id || '/' || cast(line as varchar) as which,
    'what ' || _key || ' said is replaced by ' || winner_key as detail,
    cast(null as {{ timestamp_type() }}) as noted_at
  from {{ ref('pos_line_replaced') }}

  {% for stream in var('streams') -%}
  union all

  select
    'replaced' as issue,
    'note' as severity,
    'core.{{ stream }}' as subject,
    {{ c360.entity(stream).key | join(" || '/' || ") }} as which,
    'what ' || _key || ' said is replaced by ' || winner_key as detail,
    cast(null as {{ timestamp_type() }}) as noted_at
  from {{ ref(stream ~ '_replaced') }}

  {% endfor -%}
  {% for fact, instant in [('fct_order_items', 'ordered_at'), ('fct_pos_lines', 'sold_at')] -%}
  {%- for member in ['customer', 'product'] -%}
  union all

  select
    'unknown_{{ member }}' as issue,
    'warning' as severity,
    'gold.{{ fact }}' as subject,
    {{ member }}_id as which,
    'named by ' || cast(count(*) as varchar) || ' rows, the last of them then' as detail,
    max({{ instant }}) as noted_at
  from {{ ref(fact) }}
  where {{ member }}_match = 'unknown'
  group by {{ member }}_id

  {% endfor -%}
  {% endfor -%}
  union all

  select
    'order_missing' as issue,
    'warning' as severity,
    'gold.fct_order_items' as subject,
    order_item_id as which,
    'its order ' || coalesce(order_id, 'without a name') || ' has not come' as detail,
    cast(null as {{ timestamp_type() }}) as noted_at
  from {{ ref('fct_order_items') }}
  where ordered_at is null

  union all

  select
    'amounts_differ' as issue,
    'warning' as severity,
    'gold.fct_orders' as subject,
    source || '/' || order_id as which,
    'states ' || cast(order_amount as varchar) || ', its items come to ' || cast(items_amount as varchar) as detail,
    ordered_at as noted_at
  from {{ ref('fct_orders') }}
  where order_amount <> items_amount

  union all

  select
    'negative_stock' as issue,
    'warning' as severity,
    'core.inventory' as subject,
    store_id || '/' || product_id as which,
    'stock ' || cast(stock as varchar) as detail,
    last_moved_at as noted_at
  from {{ ref('inventory') }}
  where is_negative
)

select * from issues
