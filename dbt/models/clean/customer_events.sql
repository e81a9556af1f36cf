{{ entity_events('customer', ref('customer_copies'), ref('customer_absences')) }}
