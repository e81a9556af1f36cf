{{ entity_copies('shop_transaction', ref('shop_transaction_rows'), ref('superseded_objects')) }}
