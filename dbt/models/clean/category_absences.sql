{{ config(materialized='absences', entity='category') }}

{{ absence_rows('category', ref('category_rows'), ref('superseded_objects')) }}
