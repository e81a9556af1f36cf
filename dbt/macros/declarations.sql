{#-
  What a log was made for: `<schema>.declarations (model, declaration)`, the declaration as JSON. A log made for another
  declaration is rebuilt by a person's word, not quietly, and what would change is said first.
-#}

{% macro declarations(relation) %}
  {%- do return(api.Relation.create(database=relation.database, schema=relation.schema, identifier='declarations')) -%}
{% endmacro %}

{#- What of a feed's declaration decides about rows of the log: what its records mean, and what follows from absence. -#}
{% macro deciding() %}
  {%- do return(['kind', 'event_time', 'position', 'operation', 'map', 'join', 'nulls', 'strip', 'constants', 'guard']) -%}
{% endmacro %}

{#- Does what was taken of a feed still mean what it did? A further code for an operation says something of refused rows alone: replay them. -#}
{% macro means_the_same(part, before, now) %}
  {%- if part == 'operation' and before and now and before.get('column') == now.get('column') -%}
    {%- set gone = [] -%}
    {%- for op in ['upsert', 'delete'] -%}
      {%- do gone.extend((before.get(op) or []) | reject('in', now.get(op) or []) | list) -%}
    {%- endfor -%}
    {%- do return(gone | length == 0) -%}
  {%- endif -%}
  {%- do return(tojson(before, sort_keys=true) == tojson(now, sort_keys=true)) -%}
{% endmacro %}

{#- Of the entity and its feeds, what decides about rows of the log. How type 1 is shown is the view's affair. -#}
{% macro declared_now(entity) %}
  {%- set columns = {} -%}
  {%- for column in entity.key %}{% do columns.update({column: 'key'}) %}{% endfor -%}
  {%- for column in entity.tracked %}{% do columns.update({column: 'tracked ' ~ entity.types.get(column, 'varchar')}) %}{% endfor -%}
  {%- for column in entity.type1 %}{% do columns.update({column: 'type 1 ' ~ entity.types.get(column, 'varchar')}) %}{% endfor -%}
  {%- set imputed, feeds = {}, {} -%}
  {%- for feed in declared_feeds(entity.name) -%}
    {%- set said = {} -%}
    {%- for part in deciding() if feed.feed.get(part) is not none %}{% do said.update({part: feed.feed[part]}) %}{% endfor -%}
    {%- do feeds.update({feed.name: said}) -%}
    {%- for column, rule in imputation(feed).items() %}{% do imputed.update({feed.name ~ '.' ~ column: imputation_words(rule) | trim}) %}{% endfor -%}
  {%- endfor -%}
  {%- do return({'columns': columns, 'partial': entity.partial, 'imputed': imputed, 'feeds': feeds}) -%}
{% endmacro %}

{% macro keep_declaration(relation, entity) %}
  {%- set kept = literal(tojson(declared_now(entity), sort_keys=true)) -%}
  {%- call statement('declarations', auto_begin=False) %}
    create table if not exists {{ declarations(relation) }} (model varchar not null, declaration varchar not null)
  {% endcall -%}
  {%- do in_one_transaction([
    "delete from " ~ declarations(relation) ~ " where model = '" ~ relation.identifier ~ "'",
    "insert into " ~ declarations(relation) ~ " (model, declaration) values ('" ~ relation.identifier ~ "', " ~ kept ~ ")",
  ]) -%}
{% endmacro %}

{#- The declaration that the table was made for, as JSON; none where it is not known. -#}
{% macro declaration_kept(relation) %}
  {%- set there = adapter.get_relation(relation.database, relation.schema, 'declarations') -%}
  {%- set kept = run_query("select declaration from " ~ declarations(relation) ~ " where model = '" ~ relation.identifier ~ "'").rows if there else [] -%}
  {%- do return(kept[0][0] if kept | length > 0 else none) -%}
{% endmacro %}

{#- What the declaration says now and did not say in `kept`, in words; empty where nothing changed that needs a rebuild. -#}
{% macro changes_of_declaration(relation, entity, kept) %}
  {%- set changes = [] -%}
  {%- if kept -%}
    {%- set before = fromjson(kept) -%}
    {%- set now = declared_now(entity) -%}
    {%- for column, role in now.columns.items() | sort -%}
      {%- if column not in before.columns %}{% do changes.append(column ~ ' is new (' ~ role ~ ')') -%}
      {%- elif before.columns[column] != role %}{% do changes.append(column ~ ' was ' ~ before.columns[column] ~ ' and becomes ' ~ role) -%}
      {%- endif -%}
    {%- endfor -%}
    {%- for column, role in before.columns.items() | sort if column not in now.columns -%}
      {%- do changes.append(column ~ ' (' ~ role ~ ') goes') -%}
    {%- endfor -%}
    {%- set imputed = before.get('imputed', {}) -%}
    {%- for column, rule in now.imputed.items() | sort if imputed.get(column) != rule -%}
      {%- do changes.append(column ~ ' is imputed: ' ~ rule) -%}
    {%- endfor -%}
    {%- for column in imputed | sort if column not in now.imputed -%}
      {%- do changes.append(column ~ ' is imputed no more') -%}
    {%- endfor -%}
    {#- A feed that is new brings rows like any other batch. -#}
    {%- for feed, said in before.get('feeds', {}).items() | sort -%}
      {%- if feed not in now.feeds %}{% do changes.append('feed ' ~ feed ~ ' goes') -%}
      {%- else -%}
        {%- for part in deciding() if not means_the_same(part, said.get(part), now.feeds[feed].get(part)) -%}
          {%- do changes.append('feed ' ~ feed ~ ': ' ~ part ~ ' was ' ~ tojson(said.get(part), sort_keys=true) ~ ' and becomes '
            ~ tojson(now.feeds[feed].get(part), sort_keys=true)) -%}
        {%- endfor -%}
      {%- endif -%}
    {%- endfor -%}
    {%- if now.partial != before.partial -%}
      {%- do changes.append('a feed gives it partially' if now.partial else 'no feed gives it partially any more') -%}
    {%- endif -%}
  {%- endif -%}
  {%- do return(changes) -%}
{% endmacro %}
