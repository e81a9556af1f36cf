{#- What must hold of lines and sales. Each test returns the rows that break it. -#}

{#- Of the lines that the newest batch touched: whether all are as many as they should be is counted beside it. -#}
{% test one_standing_row(model, entity) %}
{%- set key = c360.entity(entity).key %}
with newest as (
  select distinct {{ key | join(', ') }}
  from {{ model }}
  where _batch = (select max(_batch) from {{ model }})
)

select {{ 'log.' ~ (key | join(', log.')) }}, count(*) as count_standing
from {{ model }} as log
inner join newest on {{ agree('log', 'newest', key) }}
where log._ended_batch is null
group by {{ 'log.' ~ (key | join(', log.')) }}
having count(*) > 1
{% endtest %}

{#- Every content that was accepted and whose object stands counts, or was replaced. -#}
{% test as_many_lines_as_accepted(model, replaced, accepted, superseded) %}
with counting as (
  select
    (select count(*) from {{ model }} where _ended_batch is null) as count_standing,
    (select count(*) from {{ replaced }}) as count_replaced
),

counted as (
  {{ accepted_and_standing(accepted, superseded) }}
)

select count_standing, count_replaced, count_accepted
from counting
cross join counted
where count_standing + count_replaced <> count_accepted
{% endtest %}

{#- Refunds of a transaction that is not there, or without a name of one. It may come yet. -#}
{% test refunds_name_a_sale(model) %}
with refunds as (
  select * from {{ model }}
  where kind = 'refund' and product_id is null
),

-- From the few to the many: refunds are few, sales are not.
named as (
  select distinct sales.store_id, sales.transaction_id
  from {{ model }} as sales
  inner join refunds on sales.store_id = refunds.store_id and sales.transaction_id = refunds.refund_of
  where sales.kind = 'sale'
)

select refunds.*
from refunds
left join named on refunds.store_id = named.store_id and refunds.refund_of = named.transaction_id
where named.transaction_id is null
{% endtest %}

{% test refunds_within_sale(model) %}
with refunded as (
  select store_id, refund_of, currency, sum(amount) as refunded
  from {{ model }}
  where kind = 'refund' and refund_of is not null
  group by store_id, refund_of, currency
),

sold as (
  select sales.store_id, sales.transaction_id, sales.currency, sum(sales.amount) as sold
  from {{ model }} as sales
  inner join refunded
    on sales.store_id = refunded.store_id and sales.transaction_id = refunded.refund_of and sales.currency = refunded.currency
  where sales.kind = 'sale'
  group by sales.store_id, sales.transaction_id, sales.currency
)

select refunded.store_id, refunded.refund_of, refunded.currency, refunded.refunded, sold.sold
from refunded
inner join sold
  on refunded.store_id = sold.store_id and refunded.refund_of = sold.transaction_id and refunded.currency = sold.currency
where refunded.refunded > sold.sold
{% endtest %}

{% test nothing_replaced(model) %}
select * from {{ model }}
{% endtest %}

{#- Sums of the days against sums of the lines. -#}
{% test equals_lines(model, lines) %}
with days as (
  select
    currency,
    sum(count_lines) as count_lines,
    cast(sum(units_sold) as decimal(38, 4)) as units_sold,
    cast(sum(gross_revenue) as decimal(38, 4)) as gross_revenue,
    cast(sum(refunds) as decimal(38, 4)) as refunds,
    cast(sum(net_revenue) as decimal(38, 4)) as net_revenue
  from {{ model }}
  group by currency
),

lines as (
  select
    currency,
    sum(case when kind = 'sale' then 1 else 0 end) as count_lines,
    cast(sum(case when kind = 'sale' then quantity else 0 end) as decimal(38, 4)) as units_sold,
    cast(sum(case when kind = 'sale' then amount else 0 end) as decimal(38, 4)) as gross_revenue,
    cast(sum(case when kind = 'refund' then amount else 0 end) as decimal(38, 4)) as refunds,
    cast(sum(case when kind = 'sale' then amount else -amount end) as decimal(38, 4)) as net_revenue
  from {{ lines }}
  where kind in ('sale', 'refund')
  group by currency
)

{{ differences('days', 'lines', ['currency', 'count_lines', 'units_sold', 'gross_revenue', 'refunds', 'net_revenue']) }}
{% endtest %}
