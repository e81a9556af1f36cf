{{ config(materialized='absences', entity='stock_count') }}

{{ absence_rows('stock_count', ref('stock_count_rows'), ref('superseded_objects')) }}
