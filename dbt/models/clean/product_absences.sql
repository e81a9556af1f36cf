{{ config(materialized='absences', entity='product') }}

{{ absence_rows('product', ref('product_rows'), ref('superseded_objects')) }}
