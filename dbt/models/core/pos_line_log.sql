{{ config(materialized='latest', upstream='pos_line_rows') }}

-- depends_on: {{ ref('pos_line_rows') }}
select * from {{ ref('pos_line_copies') }}
