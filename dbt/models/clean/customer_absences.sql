{{ config(materialized='absences', entity='customer') }}

{{ absence_rows('customer', ref('customer_rows'), ref('superseded_objects')) }}
