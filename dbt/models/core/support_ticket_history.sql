{{ config(post_hook="{{ as_of_functions('support_ticket', ref('support_ticket_events')) }}") }}

{{ scd2_history('support_ticket', ref('support_ticket_log')) }}
