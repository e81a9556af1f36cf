{{ config(post_hook="{{ as_of_functions('NAME', ref('NAME_events')) }}") }}

{{ scd2_history('NAME', ref('NAME_log')) }}
