{{ copies_taken(ref('customer_rows'), ref('superseded_objects')) }}
