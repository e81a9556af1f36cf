{{ entity_copies('product', ref('product_rows'), ref('superseded_objects')) }}
