{#- Before the vault is loaded: fewer customers than there have to be. With `gate_severity: error` it waits. -#}
{{ config(severity=var('gate_severity')) }}

select count(distinct customer_id) as count_customers
from {{ ref('customer_copies') }}
having count(distinct customer_id) < {{ var('least_customers') }}
