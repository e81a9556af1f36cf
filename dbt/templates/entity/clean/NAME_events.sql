{{ entity_events('NAME', ref('NAME_copies'), ref('NAME_absences')) }}
