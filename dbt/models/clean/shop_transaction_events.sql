{{ entity_events('shop_transaction', ref('shop_transaction_copies'), ref('shop_transaction_absences')) }}
