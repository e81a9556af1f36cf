{#- Before the vault is loaded: fewer products than there have to be. With `gate_severity: error` it waits. -#}
{{ config(severity=var('gate_severity')) }}

select count(distinct product_id) as count_products
from {{ ref('product_copies') }}
having count(distinct product_id) < {{ var('least_products') }}
