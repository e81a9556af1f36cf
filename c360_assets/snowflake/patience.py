"""dbt on Snowflake with an end to its patience: `python -m c360_assets.snowflake.patience` is dbt's own command.

dbt-snowflake names the connector no time-out (1.12), and the connector then tries for ever what the network refuses, or
a service that answers 503. No profile can say it; what the connector takes where nobody says anything can be said
before dbt starts.
"""

from __future__ import annotations

from snowflake.connector.connection import DEFAULT_CONFIGURATION

from c360_assets.snowflake.warehouse import PATIENCE


def limit(**seconds: int) -> None:
    """From now on a connection of this process has these time-outs, PATIENCE's if not said, unless it names its own."""
    for name, value in (PATIENCE | seconds).items():
        DEFAULT_CONFIGURATION[name] = (value, DEFAULT_CONFIGURATION[name][1])


def main() -> None:
    from dbt.cli.main import cli

    limit()
    cli()


if __name__ == "__main__":
    main()
