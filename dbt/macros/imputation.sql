{#-
  Values that a feed's records lack, by the rule that the feed declares for the column (`impute`): a `value`, what
  another `column` of the record says, or the `product_of` several. Only the record itself decides, so that the same
  records give the same values whatever else has come. Staging keeps what was received.
-#}

{#- {feed column: its rule} -#}
{% macro imputation(feed) %}{% do return(feed.feed.get('impute') or {}) %}{% endmacro %}

{#- The received text of a column of the staged record `s`, or what stands in for it. -#}
{% macro stated_text(feed, column) -%}
  {%- if column in imputation(feed) -%}
    coalesce({{ received_text(feed, 's.' ~ column) }}, {{ imputed_text(feed, column) }})
  {%- else -%}
    {{ received_text(feed, 's.' ~ column) }}
  {%- endif -%}
{%- endmacro %}

{#- What the rule gives, as text; null where the record lacks that too. -#}
{% macro imputed_text(feed, column) -%}
  {%- set rule = imputation(feed)[column] -%}
  {%- if rule.get('value') is not none -%}
    {{ literal(rule['value']) }}
  {%- elif rule.get('column') -%}
    {{ received_text(feed, 's.' ~ rule['column']) }}
  {%- else -%}
    {%- set factors = [] -%}
    {%- for factor in rule['product_of'] %}{% do factors.append(try_typed(received_text(feed, 's.' ~ factor), 'decimal(18,4)')) %}{% endfor -%}
    {%- set product = factors | join(' * ') -%}
    case when abs({{ product }}) < 10000000000000 then cast(cast({{ product }} as decimal(18, 4)) as varchar) end
  {%- endif -%}
{%- endmacro %}

{#- The rule in words, as it stands in records and declarations. -#}
{% macro imputation_words(rule) -%}
  {%- if rule.get('value') is not none -%} value {{ rule['value'] }}
  {%- elif rule.get('column') -%} column {{ rule['column'] }}
  {%- else -%} product of {{ rule['product_of'] | join(' and ') }}
  {%- endif -%}
{%- endmacro %}

{#- The feed's columns that are about a person: what stands in for one is told of without its value. -#}
{% macro personal_of_feed(entity, feed) %}
  {%- set found = [] -%}
  {%- for column in entity.personal %}{% do found.append((feed.feed.get('map') or {}).get(column, column)) %}{% endfor -%}
  {%- do return(found) -%}
{% endmacro %}

{#-
  One row per value imputed in a record that clean took, of the objects that stand. Values of all columns stand in one: what is about
  a person is null there, and stands in the person's own tables, where it can be masked.
-#}
{% macro imputed_values() -%}
{%- set found = [] -%}
{%- for name in var('entities') -%}
  {%- for feed in declared_feeds(name) -%}
    {%- for column in imputation(feed) | sort -%}
      {%- do found.append({'entity': name, 'feed': feed, 'column': column}) -%}
    {%- endfor -%}
  {%- endfor -%}
{%- endfor -%}
with
{% for entity in var('entities') %}
{{ entity }}_taken as (
  select * from {{ ref(entity ~ '_rows') }}
  where reasons = '[]' and op = 'upsert'
),
{% endfor %}
final as (
  {%- for each in found %}
  select
    '{{ each.feed.name }}' as feed,
    s._key, s._etag, s._row,
    '{{ each.column }}' as column_name,
    {{ literal(imputation_words(imputation(each.feed)[each.column]) | trim) }} as rule,
    {% if each.column in personal_of_feed(c360.entity(each.entity), each.feed) %}cast(null as varchar)
    {%- else %}{{ imputed_text(each.feed, each.column) }}{% endif %} as value,
    s._loaded_at as imputed_at
  from {{ each.feed.relation }} as s
  inner join {{ each.entity }}_taken as taken
    on taken._feed = '{{ each.feed.name }}'
    and s._key = taken._key
    and s._etag = taken._etag
    and s._row = taken._row
    and s._batch = taken._loaded_batch
  where s._superseded_at is null
    and {{ received_text(each.feed, 's.' ~ each.column) }} is null
    and {{ imputed_text(each.feed, each.column) }} is not null

  union all
  {% endfor %}
  select
    cast(null as varchar) as feed,
    cast(null as varchar) as _key,
    cast(null as varchar) as _etag,
    cast(null as bigint) as _row,
    cast(null as varchar) as column_name,
    cast(null as varchar) as rule,
    cast(null as varchar) as value,
    cast(null as {{ timestamp_type() }}) as imputed_at
  where 1 = 0
)

select * from final
{%- endmacro %}
