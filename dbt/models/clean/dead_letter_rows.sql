with

documents as (
  select
    {{ json_document('payload', ['source', 'stream', 'part', 'position', 'reason', 'value_base64', 'refused_at']) }}
      as document
  from {{ source('staging', 'dead_letters') }}
  where _superseded_at is null
),

letters as (
  select
    {{ json_field('document', 'source') }} as source,
    {{ json_field('document', 'stream') }} as stream,
    {{ json_field('document', 'part') }} as part,
    {{ json_field('document', 'position') }} as position,
    {{ json_field('document', 'reason') }} as reason,
    {{ json_field('document', 'value_base64') }} as value_base64,
    {{ parsed(json_field('document', 'refused_at'), 'timestamp') }} as refused_at
  from documents
),

-- After a broken attempt a letter may stand twice.
final as (
  select
    source,
    stream,
    part,
    position,
    max(reason) as reason,
    max(value_base64) as value_base64,
    min(refused_at) as refused_at
  from letters
  group by source, stream, part, position
)

select * from final
