{{ copies_taken(ref('click_rows'), ref('superseded_objects')) }}
