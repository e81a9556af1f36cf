{{ config(post_hook="{{ as_of_functions('stock_count', ref('stock_count_events')) }}") }}

{{ scd2_history('stock_count', ref('stock_count_log')) }}
