{{ copies_taken(ref('pos_receipts'), ref('superseded_objects')) }}
