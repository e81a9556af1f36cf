{{ config(materialized='absences', entity='order_item') }}

{{ absence_rows('order_item', ref('order_item_rows'), ref('superseded_objects')) }}
