{#- Before the vault is loaded: fewer customers than there have to be. With `gate_severity: error` it waits,
  also where there are none at all: otherwise nothing of the kind is fed, and nothing is told. -#}
{{ config(severity=var('gate_severity')) }}

select count(distinct customer_id) as count_customers
from {{ ref('customer_copies') }}
having count(distinct customer_id) < {{ var('least_customers') }}{% if var('gate_severity') != 'error' %} and count(distinct customer_id) > 0{% endif %}
