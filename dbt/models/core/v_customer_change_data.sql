{{ config(meta={'waits_for': ['accounting']}) }}

-- What is handed on waits for the accounting to add up: depends_on: {{ ref('accounting') }}
{{ scd2_change_data('customer', ref('customer_history')) }}
