{#- The numbers from one to another, a row each, in the column `number`. -#}
{% macro numbers(first, last) -%}
  {%- for number in range(first, last + 1) %}select {{ number }} as number{{ ' union all ' if not loop.last }}{% endfor -%}
{%- endmacro %}
