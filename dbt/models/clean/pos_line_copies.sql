{{ copies_taken(ref('pos_line_rows'), ref('superseded_objects')) }}
