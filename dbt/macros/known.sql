{#-
  Facts as they were known at an instant: what came later, whether late, corrected or cancelled, is not there yet, and what
  was taken back since still is. Each macro gives the facts of gold where `known_at` is none, and else makes them anew from
  what had come by then, with the columns that analytics read.
-#}

{#- Every version of an entity. -#}
{% macro versions_of(entity_name, known_at=none) -%}
  {%- if known_at is none -%}
    {{ ref(entity_name ~ '_history') }}
  {%- else -%}
    {{ rows_of(as_of_name(ref(entity_name ~ '_history')), [known_at]) }}
  {%- endif -%}
{%- endmacro %}

{#- Those that had begun by the end of `day`, an expression; and those that held then. -#}
{% macro begun_by_end_of(entity_name, day, known_at=none) -%}
  (select * from {{ versions_of(entity_name, known_at) }} as versions where valid_from < {{ day }} + 1)
{%- endmacro %}
{% macro held_at_end_of(entity_name, day, known_at=none) -%}
  (
    select * from {{ begun_by_end_of(entity_name, day, known_at) }} as begun
    where valid_to is null or valid_to >= {{ day }} + 1
  )
{%- endmacro %}

{#- The records of an entity that stand. -#}
{% macro standing(entity_name, known_at=none) -%}
  {%- if known_at is none -%}
    {{ ref(entity_name) }}
  {%- else -%}
    (select * from {{ versions_of(entity_name, known_at) }} as versions where is_current)
  {%- endif -%}
{%- endmacro %}

{% macro facts_of_orders(known_at=none) -%}
  {%- if known_at is none -%}
    {{ ref('fct_orders') }}
  {%- else -%}
  (
    select
      placed.*,
      {{ total_of_order('placed', 'items') }} as amount
    from ({{ orders_placed(known_at) }}) as placed
    left join (
      select
        source,
        order_id,
        sum({{ amount_of_item() }}) as items_amount
      from ({{ items_ordered(known_at) }}) as ordered
      group by source, order_id
    ) as items
      on placed.source = items.source
      and placed.order_id = items.order_id
  )
  {%- endif -%}
{%- endmacro %}

{#- Post-hook of the orders: the table function `fct_orders_as_of(known_at)`, which gives them as they were known. -#}
{% macro orders_function() %}
  {%- if execute -%}
    {%- set columns = [
      'source varchar', 'order_id varchar', 'customer_id varchar', 'ordered_at ' ~ timestamp_type(), 'order_day date', 'order_status varchar',
      'is_sale boolean', 'payment_method varchar', 'currency varchar', 'order_amount decimal(18, 4)', 'amount decimal(38, 4)',
    ] -%}
    {%- set rows -%}
      select
        source, order_id, customer_id, ordered_at, cast(ordered_at as date) as order_day, order_status, is_sale, payment_method, currency,
        order_amount, amount
      from {{ facts_of_orders(argument('known_at')) }} as orders
    {%- endset -%}
    {%- do table_function(as_of_name(this), columns, [(['known_at'], rows)]) -%}
  {%- endif -%}
{% endmacro %}

{% macro facts_of_order_items(known_at=none) -%}
  {%- if known_at is none -%}
    {{ ref('fct_order_items') }}
  {%- else -%}
  (
    select
      items.source,
      items.order_id,
      items.product_id,
      items.quantity,
      {{ amount_of_item() }} as amount,
      placed.currency,
      placed.is_sale,
      placed.ordered_at,
      cast(placed.ordered_at as date) as order_day
    from ({{ items_ordered(known_at) }}) as items
    left join ({{ orders_placed(known_at) }}) as placed
      on items.source = placed.source
      and items.order_id = placed.order_id
  )
  {%- endif -%}
{%- endmacro %}

{% macro facts_of_lines(known_at=none) -%}
  {%- if known_at is none -%}
    {{ ref('fct_pos_lines') }}
  {%- else -%}
    (select * from {{ rows_of(as_of_name(ref('pos_line')), [known_at]) }} where kind in ('sale', 'refund'))
  {%- endif -%}
{%- endmacro %}

{% macro sales_of_days(known_at=none) -%}
  {%- if known_at is none -%}
    {{ ref('daily_sales_summary') }}
  {%- else -%}
    ({{ sales_by_day(facts_of_lines(known_at) ~ ' as lines') }})
  {%- endif -%}
{%- endmacro %}

{#-
  When the newest object, or decision, came of all that these logs are made of; no clock is asked. What is dated after it has not
  happened: a wrong clock dates it. Told by the registers, for a log names with its rows the run that brought them, which brought
  other feeds' batches too. With `known_at` the newest by then.
-#}
{% macro newest_known(logs, known_at=none) -%}
  {%- for log in logs %}{% do ref(log) %}{% endfor -%}
  {%- if execute -%}
  (
    select max(came_at)
    from (
      select feed, batch, loaded_at as came_at from {{ staged('object_ledger') }}
      union all
      select feed, batch, decided_at as came_at from {{ staged('quarantine_decisions') }}
    ) as arrivals
    where (
      {%- for log in logs %}
      (
        feed in ('{{ declared_feeds(log.removesuffix('_log')) | map(attribute='name') | join("', '") }}')
        and batch in ({{ consumed_by(log) }})
      ){{ ' or' if not loop.last }}
      {%- endfor %}
    ){{ ' and came_at <= ' ~ known_at if known_at is not none }}
  )
  {%- endif -%}
{%- endmacro %}

{#- What the functions of orders and lines read, for a comment `depends_on` of a model that makes one. -#}
{% macro known_sales() -%}
  {{ ref('shop_order_history') }}, {{ ref('order_item_history') }}, {{ ref('shop_transaction_history') }}, {{ ref('pos_line') }}
{%- endmacro %}
