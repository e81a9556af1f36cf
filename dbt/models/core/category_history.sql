{{ config(post_hook="{{ as_of_functions('category', ref('category_events')) }}") }}

{{ scd2_history('category', ref('category_log')) }}
