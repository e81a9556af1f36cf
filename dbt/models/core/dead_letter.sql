select
  source, stream, part, position, reason, refused_at
from {{ ref('dead_letter_rows') }}
