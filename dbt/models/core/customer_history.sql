{{ scd2_history('customer', ref('customer_log')) }}
