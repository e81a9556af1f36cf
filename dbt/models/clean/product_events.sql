{{ entity_events('product', ref('product_copies'), ref('product_absences')) }}
