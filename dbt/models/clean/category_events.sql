{{ entity_events('category', ref('category_copies'), ref('category_absences')) }}
