{#- What must hold of stock, facts and what is made of them. Each test returns the rows that break it. -#}

{% test stock_not_negative(model) %}
select * from {{ model }} where is_negative
{% endtest %}

{#- Rows whose other half has not come. -#}
{% test order_is_there(model, key, found) %}
select source, {{ key }}, order_id from {{ model }} where {{ found }} is null
{% endtest %}

{#- Members that facts name and nobody knows, with how many do. -#}
{% test matches(model, key, match) %}
select {{ key }}, count(*) as count_rows
from {{ model }}
where {{ match }} = 'unknown'
group by {{ key }}
{% endtest %}

{% test amounts_agree(model) %}
select source, order_id, order_amount, items_amount
from {{ model }}
where order_amount <> items_amount
{% endtest %}

{#- The sum of a column per currency is the sum of what it was made of. -#}
{% test same_total(model, column, of, of_column=none, of_rows='true', and_of=none, and_rows='true') %}
with made as (
  select currency, sum({{ column }}) as total
  from {{ model }}
  group by currency
),

source as (
  select currency, sum(amount) as total
  from (
    select currency, {{ of_column or column }} as amount from {{ of }} where {{ of_rows }}
    {%- if and_of %}
    union all
    select currency, amount from {{ and_of }} where {{ and_rows }}
    {%- endif %}
  ) as rows_of_source
  group by currency
)

select
  coalesce(made.currency, source.currency) as currency,
  made.total as total_made,
  source.total as total_of_source
from made
full outer join source on made.currency = source.currency
where coalesce(made.total, 0) <> coalesce(source.total, 0)
{% endtest %}
