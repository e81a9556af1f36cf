{{ config(materialized='latest', upstream='pos_line_rows', keep_together=['sales_date']) }}

-- depends_on: {{ ref('pos_line_rows') }}
select * from {{ ref('pos_line_copies') }}
