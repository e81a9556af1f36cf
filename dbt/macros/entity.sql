{#-
  An entity is declared once, in the `meta.entity` of the model that keeps its log: `name`, `key`, `tracked`, `type1`,
  `ignored`; the types stand with the columns. A feed says which entity it maps onto, in its own declaration.
  The graph is read while a model runs, never while the project is parsed.
-#}

{#-
  {name, key, tracked, type1, type1_every_version, ignored, attributes (tracked and type 1, by name), types, partial (does a
  feed give it partially?)}, or an error that lists what there is.
-#}
{% macro entity(name) %}
  {%- if not execute -%}
    {%- do return({'name': name, 'key': [], 'tracked': [], 'type1': [], 'type1_every_version': false, 'ignored': [],
      'attributes': [], 'types': {}, 'partial': false, 'personal': []}) -%}
  {%- endif -%}
  {%- set there = [] -%}
  {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.meta.get('entity') -%}
    {%- if node.config.meta.entity.name == name %}{% do return(entity_of(node)) %}{% endif -%}
    {%- do there.append(node.config.meta.entity.name) -%}
  {%- endfor -%}
  {%- do exceptions.raise_compiler_error("entity '" ~ name ~ "' is not declared; there are: " ~ there | sort | join(', ')) -%}
{% endmacro %}

{% macro entity_of(node) %}
  {%- set declared = node.config.meta.entity -%}
  {%- set types = {} -%}
  {%- for column in node.columns.values() %}{% do types.update({column.name: column.data_type or 'varchar'}) %}{% endfor -%}
  {%- set tracked = declared.tracked | sort -%}
  {%- set type1 = declared.get('type1', []) | sort -%}
  {%- set partial = [declared.get('partial', false)] -%}
  {%- for feed in declared_feeds(declared.name) %}{% do partial.append(feed.feed.get('kind') == 'partial') %}{% endfor -%}
  {%- do return({
    'name': declared.name, 'key': declared.key, 'tracked': tracked, 'type1': type1,
    'type1_every_version': declared.get('type1_every_version', false),
    'ignored': declared.get('ignored', []), 'attributes': (tracked + type1) | sort, 'types': types,
    'personal': declared.get('personal', []),
    'partial': true in partial,
  }) -%}
{% endmacro %}

{#-
  {column: what it is} of what is about a person: under an entity's name for it, or as the model at hand says in its own meta
  (`personal`) where it gives it another. A name is enough: what bears it in any table is a copy.
-#}
{% macro personal_names() %}
  {%- set found = {} -%}
  {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.meta.get('entity') -%}
    {%- for column in node.config.meta.entity.get('personal', []) -%}
      {%- do found.update({column: node.config.meta.entity.name ~ '.' ~ column}) -%}
    {%- endfor -%}
  {%- endfor -%}
  {%- for column in model.config.meta.get('personal', []) %}{% do found.update({column: model.name ~ '.' ~ column}) %}{% endfor -%}
  {%- do return(found) -%}
{% endmacro %}

{#- The feeds as declared, [{name, relation, feed, columns}], by name; with an entity's name, those that map onto it. -#}
{% macro declared_feeds(entity_name=none) %}
  {%- set found = [] -%}
  {%- if execute -%}
    {#- A unit test has no sources. -#}
    {%- for source in (graph.get('sources') or {}).values() | sort(attribute='name') if source.config.meta.get('feed') -%}
      {%- if entity_name is none or source.config.meta.feed.get('entity') == entity_name -%}
        {%- do found.append({
          'name': source.name,
          'feed': source.config.meta.feed,
          'columns': source.columns.keys() | list,
          'relation': api.Relation.create(database=source.database, schema=source.schema, identifier=source.identifier),
        }) -%}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {%- do return(found) -%}
{% endmacro %}

{#- Change events in an envelope: the one kind of event feed whose record is a document. -#}
{% macro is_debezium(feed) %}{% do return(feed.feed.get('kind') == 'events' and feed.columns == ['payload']) %}{% endmacro %}

{#- A register of staging, for materializations: models name it by source(). -#}
{% macro staged(name) %}
  {%- for source in graph.sources.values() if source.name == name and source.source_name == 'staging' -%}
    {%- do return(api.Relation.create(database=source.database, schema=source.schema, identifier=source.identifier)) -%}
  {%- endfor -%}
{% endmacro %}

{#- The text of a typed value that hashes and comparisons are made of; null stays null. -#}
{% macro canonical_text(column, type) -%}
  {%- if type == 'date' %}{{ date_text(column) }}
  {%- elif type == 'timestamp' %}{{ timestamp_text(column) }}
  {%- elif type == 'varchar' %}{{ column }}
  {%- else %}cast({{ column }} as varchar)
  {%- endif -%}
{%- endmacro %}

{#- SHA-256 of `name=<bytes>:<text>;` for each column by name, nulls left out. `expressions`: {column: typed expression}. -#}
{% macro content_hash(expressions, types) -%}
  {%- set parts = [] -%}
  {%- for column, expression in expressions.items() | sort -%}
    {%- set text = canonical_text(expression, types.get(column, 'varchar')) -%}
    {%- do parts.append("coalesce('" ~ column ~ "=' || " ~ byte_length(text) ~ " || ':' || " ~ text ~ " || ';', '')") -%}
  {%- endfor -%}
  {{ sha256_text(parts | join(' || ') if parts else "''") }}
{%- endmacro %}

{#- {column: expression} where each column is its own expression. -#}
{% macro by_name(columns, prefix='') %}
  {%- set expressions = {} -%}
  {%- for column in columns %}{% do expressions.update({column: prefix ~ column}) %}{% endfor -%}
  {%- do return(expressions) -%}
{% endmacro %}
