{#- A model's schema is its layer's name, on every target and for every developer: `core.customer` is a contract. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
