{{ config(post_hook="{{ as_of_functions('product', ref('product_events')) }}") }}

{{ scd2_history('product', ref('product_log')) }}
