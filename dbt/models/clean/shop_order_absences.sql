{{ config(materialized='absences', entity='shop_order') }}

{{ absence_rows('shop_order', ref('shop_order_rows'), ref('superseded_objects')) }}
