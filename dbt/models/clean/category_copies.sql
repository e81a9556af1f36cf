{{ entity_copies('category', ref('category_rows'), ref('superseded_objects')) }}
