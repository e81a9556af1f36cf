{{ entity_events('shop_order', ref('shop_order_copies'), ref('shop_order_absences')) }}
