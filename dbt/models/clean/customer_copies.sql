{{ entity_copies('customer', ref('customer_rows'), ref('superseded_objects')) }}
