{#-
  What customers and baskets tell, as of a day: nothing after it is looked at, so that the table of yesterday can be made
  again today. `day` is an expression, of which the end counts. What was corrected since counts as corrected, unless `known_at`
  is given: then all is as it was known at that instant.
-#}

{#- What customers bought and gave back, in the shop and at the tills: one row per order and line; `purchase` names what counts as one. -#}
{% macro purchases(known_at=none) %}
  select
    customer_id,
    currency,
    ordered_at as bought_at,
    source || ':' || order_id as purchase,
    amount as revenue,
    0 as refunds
  from {{ facts_of_orders(known_at) }} as orders
  where
    is_sale
    and customer_id is not null

  union all

  select
    customer_id,
    currency,
    sold_at as bought_at,
    case when kind = 'sale' then 'pos:' || store_id || '/' || transaction_id end as purchase,
    case when kind = 'sale' then amount else 0 end as revenue,
    case when kind = 'refund' then amount else 0 end as refunds
  from {{ facts_of_lines(known_at) }} as lines
  where customer_id is not null
{% endmacro %}

{#- The last day on which anything was bought, of what can have happened: no clock is asked, and none that is wrong is believed. -#}
{% macro last_day_of_purchases() -%}
  (
    select max(cast(bought_at as date)) from ({{ purchases() }}) as dated
    where purchase is not null and bought_at <= {{ newest_known(['shop_order_log', 'shop_transaction_log', 'pos_line_log']) }}
  )
{%- endmacro %}

{#-
  Customers by how lately, how often and for how much they bought in the year up to `day`, per currency. Scores are fifths,
  1 to 5, of those who bought at all; equal customers have equal scores.
-#}
{% macro customer_segments(day, known_at=none) %}
  with

  purchases as (
    {{ purchases(known_at) }}
  ),

  asked as (
    select {{ day }} as as_of_day
  ),

  customers as (
    select
      purchases.customer_id,
      purchases.currency,
      asked.as_of_day,
      max(case when purchase is not null then cast(bought_at as date) end) as last_bought_on,
      count(distinct purchase) as count_purchases,
      cast(sum(coalesce(revenue, 0) - refunds) as decimal(38, 4)) as net_revenue
    from purchases
    inner join asked
      on cast(purchases.bought_at as date) <= asked.as_of_day
      and cast(purchases.bought_at as date) > asked.as_of_day - 365
    group by purchases.customer_id, purchases.currency, asked.as_of_day
    having count(distinct purchase) > 0
  ),

  scored as (
    select
      *,
      {{ fifth('last_bought_on', from_above=true) }} as recency_score,
      {{ fifth('count_purchases') }} as frequency_score,
      {{ fifth('net_revenue') }} as monetary_score
    from customers
  )

  select
    as_of_day,
    customer_id,
    currency,
    cast(as_of_day - last_bought_on as integer) as days_since_purchase,
    count_purchases,
    net_revenue,
    recency_score,
    frequency_score,
    monetary_score,
    case
      when recency_score >= 4 and frequency_score >= 4 then 'champion'
      when recency_score >= 4 and frequency_score <= 2 then 'new'
      when recency_score >= 3 and frequency_score >= 3 then 'loyal'
      when recency_score <= 2 and frequency_score >= 4 then 'at_risk'
      when recency_score = 1 then 'lost'
      else 'occasional'
    end as segment
  from scored
{% endmacro %}

{#- Who is in another segment than `vars: segment_move_days` days before `day`. -#}
{% macro segment_moves(day, known_at=none) %}
  with

  now_in as (
    {{ customer_segments(day, known_at) }}
  ),

  before_in as (
    {{ customer_segments('(' ~ day ~ ' - ' ~ var('segment_move_days') ~ ')', known_at) }}
  )

  select
    coalesce(now_in.customer_id, before_in.customer_id) as customer_id,
    coalesce(now_in.currency, before_in.currency) as currency,
    before_in.as_of_day as before_day,
    before_in.segment as segment_before,
    now_in.as_of_day,
    now_in.segment
  from now_in
  full outer join before_in
    on now_in.customer_id = before_in.customer_id
    and now_in.currency = before_in.currency
  where now_in.segment is distinct from before_in.segment
{% endmacro %}

{#-
  The fifth of its currency that a value falls into, 5 the highest. Equal values share one: that of the lowest of them, or,
  `from_above`, of the highest, so that where most have the highest, that is what they all have.
-#}
{% macro fifth(value, from_above=false) -%}
  {%- set rank = 'least(4, floor(5 * percent_rank() over (partition by currency order by ' ~ value ~ (' desc' if from_above else '') ~ ')))' -%}
  cast({{ '5 - ' if from_above else '1 + ' }}{{ rank }} as integer)
{%- endmacro %}

{#- Customers by the month of their first purchase, and how many of them bought in each month after it, up to `day`. -#}
{% macro cohorts(day, known_at=none) %}
  with

  purchases as (
    {{ purchases(known_at) }}
  ),

  asked as (
    select {{ day }} as as_of_day
  ),

  months as (
    select distinct
      purchases.customer_id,
      asked.as_of_day,
      {{ month_of('purchases.bought_at') }} as bought_in
    from purchases
    inner join asked on cast(purchases.bought_at as date) <= asked.as_of_day
    where purchases.purchase is not null
  ),

  customers as (
    select
      customer_id,
      min(bought_in) as cohort_month
    from months
    group by customer_id
  ),

  sizes as (
    select
      cohort_month,
      count(*) as count_customers
    from customers
    group by cohort_month
  ),

  active as (
    select
      months.as_of_day,
      customers.cohort_month,
      {{ months_between('customers.cohort_month', 'months.bought_in') }} as months_since,
      count(*) as count_active
    from months
    inner join customers on months.customer_id = customers.customer_id
    group by months.as_of_day, customers.cohort_month, {{ months_between('customers.cohort_month', 'months.bought_in') }}
  )

  select
    active.as_of_day,
    active.cohort_month,
    active.months_since,
    sizes.count_customers,
    active.count_active,
    cast(active.count_active as double) / sizes.count_customers as retention
  from active
  inner join sizes on active.cohort_month = sizes.cohort_month
{% endmacro %}

{#- Whole months from one month's first day to another's. -#}
{% macro months_between(first, second) -%}
  cast(
    12 * (extract(year from {{ second }}) - extract(year from {{ first }}))
    + extract(month from {{ second }}) - extract(month from {{ first }}) as integer
  )
{%- endmacro %}

{#-
  Pairs of products that were bought together up to `day`: of orders and receipts with at most
  `vars: affinity_basket_products` products, how many have both, and how much more often than by chance.
-#}
{% macro affinity(day, known_at=none) %}
  with

  asked as (
    select {{ day }} as as_of_day
  ),

  bought as (
    select distinct
      source || ':' || order_id as basket,
      product_id
    from {{ facts_of_order_items(known_at) }} as items
    cross join asked
    where
      is_sale
      and product_id is not null
      and order_day <= as_of_day

    union

    select distinct
      'pos:' || store_id || '/' || transaction_id as basket,
      product_id
    from {{ facts_of_lines(known_at) }} as lines
    cross join asked
    where
      kind = 'sale'
      and product_id is not null
      and sales_date <= as_of_day
  ),

  sized as (
    select
      basket,
      product_id,
      count(*) over (partition by basket) as count_products
    from bought
  ),

  baskets as (
    select
      basket,
      product_id
    from sized
    where count_products <= {{ var('affinity_basket_products') }}
  ),

  total as (
    select count(distinct basket) as count_baskets from baskets
  ),

  products as (
    select
      product_id,
      count(*) as count_baskets
    from baskets
    group by product_id
  ),

  pairs as (
    select
      one.product_id,
      other.product_id as other_product_id,
      count(*) as count_both
    from baskets as one
    inner join baskets as other
      on one.basket = other.basket
      and one.product_id < other.product_id
    group by one.product_id, other.product_id
    having count(*) >= {{ var('affinity_baskets') }}
  )

  select
    asked.as_of_day,
    pairs.product_id,
    pairs.other_product_id,
    pairs.count_both,
    cast(pairs.count_both as double) / total.count_baskets as support,
    cast(pairs.count_both as double) / one.count_baskets as confidence,
    cast(pairs.count_both as double) / other.count_baskets as confidence_of_other,
    cast(pairs.count_both as double) * total.count_baskets / (one.count_baskets * other.count_baskets) as lift
  from pairs
  inner join products as one on pairs.product_id = one.product_id
  inner join products as other on pairs.other_product_id = other.product_id
  cross join total
  cross join asked
{% endmacro %}

{#- What customers bought, of rows as `purchases` gives them: one row per customer and currency. -#}
{% macro sales_of_customers(rows) %}
  select
    customer_id,
    currency,
    count(distinct purchase) as count_purchases,
    cast(sum(coalesce(revenue, 0)) as decimal(38, 4)) as gross_revenue,
    cast(sum(refunds) as decimal(38, 4)) as refunds,
    cast(sum(coalesce(revenue, 0) - refunds) as decimal(38, 4)) as net_revenue,
    min(case when purchase is not null then bought_at end) as first_bought_at,
    max(case when purchase is not null then bought_at end) as last_bought_at
  from {{ rows }}
  group by customer_id, currency
{% endmacro %}

{#- The customers who brought most up to `day`, as their version at its end describes them; or of all there is, as they are now. -#}
{% macro top_customers(day=none, known_at=none) %}
  with

  {% if day is not none -%}
  purchases as (
    {{ purchases(known_at) }}
  ),

  bought as (
    select * from purchases
    where cast(bought_at as date) <= {{ day }}
  ),

  {% endif -%}
  sales as (
    {% if day is none %}select * from {{ ref('customer_sales') }}{% else %}{{ sales_of_customers('bought') }}{% endif %}
  ),

  ranked as (
    select
      *,
      rank() over (partition by currency order by net_revenue desc nulls last) as revenue_rank
    from sales
  ),

  customers as (
    {% if day is none -%}
    select * from {{ ref('customer') }}
    {%- else -%}
    select * from {{ held_at_end_of('customer', day, known_at) }} as versions
    {%- endif %}
  )

  select
    ranked.currency,
    ranked.revenue_rank,
    ranked.customer_id,
    customers.first_name,
    customers.last_name,
    customers.email,
    customers.country,
    customers.customer_id is not null as is_known,
    ranked.count_purchases,
    ranked.gross_revenue,
    ranked.refunds,
    ranked.net_revenue,
    ranked.first_bought_at,
    ranked.last_bought_at
  from ranked
  left join customers on ranked.customer_id = customers.customer_id
  where ranked.revenue_rank <= {{ var('count_top_customers') }}
{% endmacro %}

{#-
  Post-hook: the table functions `<model>_as_of(day)`, which gives what the model is at the end of another day, and
  `<model>_as_of(day, known_at)`, as it was known at an instant.
-#}
{% macro day_function(rows_as_of, columns) %}
  {%- if execute -%}
    {%- set day = 'cast(' ~ argument('day') ~ ' as date)' -%}
    {%- do table_function(as_of_name(this), columns, [
      (['day'], rows_as_of(day)), (['day', 'known_at'], rows_as_of(day, argument('known_at'))),
    ]) -%}
  {%- endif -%}
{% endmacro %}

{#-
  What is foretold of customers, where it is (c360_assets/predictions.py writes it, and its extra may not be installed): a table
  that views may read at any time.
-#}
{% macro customer_value() %}
  {%- do return(api.Relation.create(database=this.database, schema=this.schema, identifier='customer_value')) -%}
{% endmacro %}
{% macro ensure_customer_value() %}
  create table if not exists {{ customer_value() }} (
    as_of date, currency varchar, customer_id varchar, days_with_purchase bigint, first_bought_on date, last_bought_on date,
    churn_risk decimal(18, 4), expected_purchases decimal(18, 4), expected_value decimal(18, 4), churn_error decimal(18, 4),
    naive_churn_error decimal(18, 4), known_at timestamp
  )
{% endmacro %}
