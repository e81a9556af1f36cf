{#-
  What the fold of a batch comes to in the tables: the statements of the one transaction. A log that is new (`anew`) gets its
  open rows after all others, so that they lie together: they are what every batch looks for.
-#}
{% macro scd2_write(entity, log, current, ties, changes, retracting, anew=false) %}
  {%- set work = log.identifier -%}
  {%- set identity = scd2_identity(entity) -%}
  {%- set same_row = same_row(log.identifier, 'w', identity) -%}
  {%- set moving = scd2_moving(entity) -%}
  {%- set filled = moving | reject('equalto', 'given') | list -%}
  {%- set columns = scd2_log_columns(entity) -%}
  {%- set shown = entity.key + entity.attributes -%}
  {%- set statements = [] -%}

  {%- if retracting -%}
    {%- do statements.append(scd2_forget(entity, log, work)) -%}
  {%- endif -%}

  {%- for changing in apart([scd2_ends(), ['position', 'known_at'] + moving + scd2_starts()]) -%}
    {%- set mark -%}
    update {{ log }}
    set {% for c in changing %}{{ c }} = w.{{ c }}{{ ', ' if not loop.last }}{% endfor %}
    from (
      select
        merged._address, {{ 'merged.' ~ (identity | join(', merged.')) }},
        {% for c in changing %}{{ 'folded' if c in filled + scd2_marks() else 'merged' }}.{{ c }}{{ ', ' if not loop.last }}{% endfor %}
      from {{ work }}__folded as folded
      inner join {{ work }}__merged as merged on folded._id = merged._id
      where folded.is_stored and (
        {%- for c in changing %}
        {{ 'folded' if c in filled + scd2_marks() else 'merged' }}.{{ c }} is distinct from merged.stored_{{ c }}
        {{- ' or' if not loop.last }}
        {%- endfor %}
      )
    ) as w
    where {{ same_row }}
    {%- endset -%}
    {%- do statements.append(mark) -%}
  {%- endfor -%}

  {#- An event of which the first copy was taken back comes from another object now. -#}
  {%- if retracting -%}
    {%- set name_origin -%}
      update {{ log }}
      set {% for c in scd2_lineage() %}{{ c }} = w.{{ c }}{{ ', ' if not loop.last }}{% endfor %}
      from {{ work }}__incoming as w
      where w.is_merged_anew and {{ agree(log.identifier, 'w', identity) }}
    {%- endset -%}
    {%- do statements.append(name_origin) -%}
  {%- endif -%}

  {%- for part in ([' and folded.next_at is not null', ' and folded.next_at is null'] if anew else ['']) -%}
    {%- set add -%}
    insert into {{ log }} ({{ (columns + scd2_marks()) | join(', ') }})
    select
      {% for c in columns %}
      {%- if c == 'key_hash' %}{{ key_hash('incoming', entity.key) }}{% else %}{{ 'folded' if c in filled else 'incoming' }}.{{ c }}{% endif %}, {% endfor %}
      folded.{{ scd2_marks() | join(', folded.') }}
    from {{ work }}__incoming as incoming
    inner join {{ work }}__folded as folded on incoming._id = folded._id
    where not folded.is_stored{{ part }}
    {%- endset -%}
    {%- do statements.append(add) -%}
  {%- endfor -%}

  {%- do statements.extend(scd2_write_current(entity, log, current, work)) -%}
  {%- do statements.extend([
    delete_matching(ties, '(' ~ scd2_instants(entity, work) ~ ')', entity.key + ['event_time']),
    'insert into ' ~ ties ~ ' select * from ' ~ work ~ '__ties',
    'insert into ' ~ changes ~ ' select touched.*, newest.batch from ' ~ work ~ '__touched as touched cross join ('
    ~ 'select max(batch) as batch from ' ~ work ~ '__batches) as newest',
  ]) -%}
  {%- do return(statements) -%}
{% endmacro %}

{#- Events that no copy states any more. -#}
{% macro scd2_forget(entity, log, work) %}
  delete from {{ log }} using (
    select stored.*
    from (select * from {{ work }}__stored where is_of_key) as stored
    inner join {{ work }}__retracted as retracted on {{ agree('stored', 'retracted', scd2_identity(entity)) }}
    left join {{ work }}__incoming as incoming on {{ agree('stored', 'incoming', scd2_identity(entity)) }}
    where incoming._id is null
  ) as w
  where {{ same_row(log.identifier, 'w', scd2_identity(entity)) }}
{%- endmacro %}

{#-
  The current table of the keys touched. Most open versions are new events, whose values are at hand; one that was open
  before, with the same start, keeps its row, and only one that opens again or starts elsewhere is read from the log, whose
  marks are written by then.
-#}
{% macro scd2_write_current(entity, log, current, work) %}
  {%- set shown = entity.key + entity.attributes -%}
  {%- set same = 'was_open and version_from = stored_version_from' if not entity.partial else 'false' -%}
  {%- set close -%}
    delete from {{ current }} using (
      select touched.*
      from {{ work }}__touched as touched
      left join (select * from {{ work }}__open where {{ same }}) as still on {{ agree('touched', 'still', entity.key) }}
      where still._id is null
    ) as w
    where {{ agree(current.identifier, 'w', entity.key) }}
  {%- endset -%}
  {%- set open -%}
    insert into {{ current }} ({{ shown | join(', ') }}, valid_from)
    select
      {% for c in shown %}{{ 'folded' if entity.partial and c in entity.attributes else 'incoming' }}.{{ c }}, {% endfor %}
      folded.version_from
    from {{ work }}__incoming as incoming
    inner join {{ work }}__folded as folded on incoming._id = folded._id
    where not folded.is_stored and folded.is_version and folded.next_at is null
  {%- endset -%}
  {%- set reopen -%}
    insert into {{ current }} ({{ shown | join(', ') }}, valid_from)
    select {{ log.identifier }}.{{ shown | join(', ' ~ log.identifier ~ '.') }}, w.version_from
    from {{ log }}
    inner join (select * from {{ work }}__open where is_stored and not ({{ same }})) as w
      on {{ same_row(log.identifier, 'w', scd2_identity(entity)) }}
  {%- endset -%}
  {%- do return([close, open, reopen]) -%}
{% endmacro %}
