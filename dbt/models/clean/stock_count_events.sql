{{ entity_events('stock_count', ref('stock_count_copies'), ref('stock_count_absences')) }}
