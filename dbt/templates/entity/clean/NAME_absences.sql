{{ config(materialized='absences', entity='NAME') }}

{{ absence_rows('NAME', ref('NAME_rows'), ref('superseded_objects')) }}
