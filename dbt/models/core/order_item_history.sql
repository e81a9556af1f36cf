{{ config(post_hook="{{ as_of_functions('order_item', ref('order_item_events')) }}") }}

{{ scd2_history('order_item', ref('order_item_log')) }}
