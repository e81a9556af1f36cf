{{ config(materialized='absences', entity='shop_transaction') }}

{{ absence_rows('shop_transaction', ref('shop_transaction_rows'), ref('superseded_objects')) }}
