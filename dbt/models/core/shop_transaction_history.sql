{{ config(post_hook="{{ as_of_functions('shop_transaction', ref('shop_transaction_events')) }}") }}

{{ scd2_history('shop_transaction', ref('shop_transaction_log')) }}
