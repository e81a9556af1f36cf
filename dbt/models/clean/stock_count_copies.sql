{{ entity_copies('stock_count', ref('stock_count_rows'), ref('superseded_objects')) }}
