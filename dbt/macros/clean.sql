{#-
  From text as received to typed values, and every reason why a row cannot be taken. A reason is a code, with the column
  after a colon: `bad_date:signup_date`. Conditions say when a row is refused; nothing is guessed.
-#}

{#- ISO (with - or /), or MM/DD/YYYY where the two numbers cannot be swapped; null where it is neither. -#}
{% macro parsed_date(text) -%}
  case
    when {{ matches(text, '[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}/[0-9]{2}/[0-9]{2}') }} then {{ try_typed("replace(" ~ text ~ ", '/', '-')", 'date') }}
    when {{ matches(text, '[0-9]{2}/[0-9]{2}/[0-9]{4}') }}
      and (substr({{ text }}, 4, 2) > '12' or substr({{ text }}, 1, 2) = substr({{ text }}, 4, 2))
    then {{ try_typed("substr(" ~ text ~ ", 7, 4) || '-' || substr(" ~ text ~ ", 1, 2) || '-' || substr(" ~ text ~ ", 4, 2)", 'date') }}
  end
{%- endmacro %}

{% macro timestamp_pattern() -%}
[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]+)?)? ?([Zz]|UTC|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?
{%- endmacro %}

{#- The wall clock reading of an ISO timestamp or date, its fraction cut to microseconds, its offset left aside. -#}
{% macro parsed_wall_clock(text) -%}
  case
    when {{ matches(text, timestamp_pattern()) }}
    then {{ try_typed(
      "case when length(" ~ text ~ ") = 10 then " ~ text ~ " || ' 00:00:00' else "
      ~ replaced(replaced("replace(" ~ replaced(text, ' ?([Zz]|UTC|[+-][0-9]{2}:?[0-9]{2})$', '') ~ ", ',', '.')",
                          '^(.{10})[T ](.{5})$', '<1> <2>:00'),
                 '^(.{10})[T ](.{8}([.][0-9]{1,6})?)[0-9]*$', '<1> <2>') ~ " end", 'timestamp') }}
  end
{%- endmacro %}

{#- Minutes by which the stated offset is ahead of UTC: 0 for Z and for UTC, null where none is stated. -#}
{% macro parsed_offset(text) -%}
  case
    when {{ matches(text, '.{11,}([Zz]|UTC)') }} then 0
    when {{ matches(text, '.{11,}[+-][0-9]{2}:?[0-9]{2}') }}
    then (case when {{ matches(text, '.*[-][0-9]{2}:?[0-9]{2}') }} then -1 else 1 end)
      * (cast(substr(right(replace({{ text }}, ':', ''), 4), 1, 2) as int) * 60 + cast(right({{ text }}, 2) as int))
  end
{%- endmacro %}

{#- Does the local time name no instant, or two, in the zone? Clocks are put forward and back by 30 or 60 minutes. -#}
{% macro is_unclear_local(local, zone) -%}
  {%- set utc = to_utc(local, zone) -%}
  ({{ to_local(utc, zone) }} <> {{ local }}
  {%- for minutes in [-60, -30, 30, 60] %}
    or {{ to_local(minutes_earlier(utc, minutes), zone) }} = {{ local }}
  {%- endfor %})
{%- endmacro %}

{#-
  A stated position, a number or a tuple of numbers, as text that sorts as the numbers do: each integer part filled
  to 38 digits, one blank between the members. '7' < '7.5' < '12' and '3:9' < '3:10'. Null where it is no such thing.
-#}
{% macro parsed_position(text) -%}
  {%- set members = replaced(replaced(text, '[][() ]', ''), '[,:/]', ' ') -%}
  case
    when {{ matches(text, '[[(]? *[0-9]{1,38}([.][0-9]{1,12})?( *[,:/] *[0-9]{1,38}([.][0-9]{1,12})?)* *[])]?') }}
    then {{ replaced(replaced(replaced(replaced(members,
      '(^| )([0-9]+)', '<1>' ~ '0' * 38 ~ '<2>'),
      '0*([0-9]{38})([ .]|$)', '<1><2>'),
      '([.][0-9]*[1-9])0+( |$)', '<1><2>'),
      '[.]0+( |$)', '<1>') }}
  end
{%- endmacro %}

{#- An ordinal as a position. -#}
{% macro ordinal_position(number) -%}lpad(cast({{ number }} as varchar), 38, '0'){%- endmacro %}

{#- The text as a value of the type; null where it is none. -#}
{% macro parsed(text, type) -%}
  {%- if type == 'varchar' %}{{ text }}
  {%- elif type == 'date' %}{{ parsed_date(text) }}
  {%- elif type == 'timestamp' -%}
    cast(coalesce(
      {{ minutes_earlier(parsed_wall_clock(text), 'coalesce(' ~ parsed_offset(text) ~ ', 0)') }},
      cast({{ parsed_date(text) }} as {{ timestamp_type() }})
    ) as {{ timestamp_type() }})
  {%- elif type == 'boolean' %}case lower({{ text }}) when 'true' then true when 't' then true when '1' then true when 'yes' then true
    when 'false' then false when 'f' then false when '0' then false when 'no' then false end
  {%- else %}{{ try_typed(text, type) }}
  {%- endif -%}
{%- endmacro %}

{#- The reasons that hold, as a JSON array of codes in the order given: {code: condition}. Snowflake makes a column that only
    literals fill as wide as these are: it is cast, so that a feed that is declared later fits. -#}
{% macro reasons_that_hold(conditions) -%}
  cast('[' || substr(
    {%- for code, condition in conditions.items() %}
    case when {{ condition }} then ',"{{ code }}"' else '' end{{ ' ||' if not loop.last }}
    {%- endfor %}, 2) || ']' as varchar)
{%- endmacro %}
