{{ entity_copies('support_ticket', ref('support_ticket_rows'), ref('superseded_objects')) }}
