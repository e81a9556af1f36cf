{{ entity_events('support_ticket', ref('support_ticket_copies'), ref('support_ticket_absences')) }}
