-- What the API and the dashboards read, beside Dagster's own database.
create database serving;
