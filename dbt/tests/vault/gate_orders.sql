{#- Before the vault is loaded: fewer orders than there have to be. With `gate_severity: error` it waits,
  also where there are none at all: otherwise nothing of the kind is fed, and nothing is told. -#}
{{ config(severity=var('gate_severity'), meta={'dagster': {'ref': {'name': 'shop_order_copies'}}}) }}

select count(*) as count_orders
from (
  select 'orders' as source, order_id from {{ ref('shop_order_copies') }}
  union
  select 'transactions' as source, transaction_id as order_id from {{ ref('shop_transaction_copies') }}
) as orders
having count(*) < {{ var('least_orders') }}{% if var('gate_severity') != 'error' %} and count(*) > 0{% endif %}
