{{ entity_events('order_item', ref('order_item_copies'), ref('order_item_absences')) }}
