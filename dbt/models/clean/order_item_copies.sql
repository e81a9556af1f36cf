{{ entity_copies('order_item', ref('order_item_rows'), ref('superseded_objects')) }}
