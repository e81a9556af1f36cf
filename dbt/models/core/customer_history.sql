{{ config(post_hook="{{ as_of_functions('customer', ref('customer_events')) }}") }}

{{ scd2_history('customer', ref('customer_log')) }}
