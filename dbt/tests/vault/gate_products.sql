{#- Before the vault is loaded: fewer products than there have to be. With `gate_severity: error` it waits,
  also where there are none at all: otherwise nothing of the kind is fed, and nothing is told. -#}
{{ config(severity=var('gate_severity')) }}

select count(distinct product_id) as count_products
from {{ ref('product_copies') }}
having count(distinct product_id) < {{ var('least_products') }}{% if var('gate_severity') != 'error' %} and count(distinct product_id) > 0{% endif %}
