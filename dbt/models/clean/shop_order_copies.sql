{{ entity_copies('shop_order', ref('shop_order_rows'), ref('superseded_objects')) }}
