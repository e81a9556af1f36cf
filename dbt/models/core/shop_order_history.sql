{{ config(post_hook="{{ as_of_functions('shop_order', ref('shop_order_events')) }}") }}

{{ scd2_history('shop_order', ref('shop_order_log')) }}
