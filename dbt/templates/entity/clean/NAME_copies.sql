{{ entity_copies('NAME', ref('NAME_rows'), ref('superseded_objects')) }}
