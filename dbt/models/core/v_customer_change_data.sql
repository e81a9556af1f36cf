{{ scd2_change_data('customer', ref('customer_history')) }}
