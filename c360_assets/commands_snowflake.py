"""`c360 snowflake`: what the account has to have, what it costs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from c360_assets import entities, output
from c360_assets.cli import DONE, USAGE, UsageError, say
from c360_assets.feeds import load_feeds
from c360_assets.settings import Settings, SettingsError
from c360_assets.snowflake import cost, objects
from c360_assets.snowflake.objects import Statement, Wanted
from c360_assets.snowflake.warehouse import SnowflakeWarehouse
from c360_assets.warehouse import WarehouseRefused


def snowflake(options: argparse.Namespace, settings: Settings) -> int:
    if settings.warehouse != "snowflake":
        raise SettingsError("C360_WAREHOUSE is duckdb; c360 snowflake is for C360_WAREHOUSE=snowflake")
    if options.action == "cost":
        return _cost(options, settings)
    feeds = load_feeds([settings.dbt_project / "models" / "staging"])
    declared = list(entities.declared(settings.dbt_project).values())
    if options.action == "bootstrap":
        wanted = Wanted(
            role_arn=options.role_arn,
            topic_arn=options.topic_arn,
            credits=options.credits,
            size=options.size.upper(),
            idle_seconds=options.idle,
            masking=not options.no_masking,
        )
        statements = objects.bootstrap(settings, wanted, feeds, declared)
    else:
        statements = objects.teardown(settings, warehouses_too=options.warehouses)
    if options.print:
        for statement in statements:
            print(f"{statement.sql};")
        return DONE
    if options.action == "teardown" and not options.yes:
        named = ", ".join(f"{s.kind} {s.name}" for s in statements)
        say(f"c360 snowflake teardown: this drops, with all data, {named}; say --yes")
        return USAGE
    return _run(statements, settings)


def _run(statements: Sequence[Statement], settings: Settings) -> int:
    """Each statement in turn; the first that is refused is named, and may be run again with those behind it."""
    with SnowflakeWarehouse(settings.snowflake).writing("bootstrap") as session:
        for statement in statements:
            try:
                session.execute(statement.sql)
            except Exception as error:
                raise WarehouseRefused(f"{statement.kind} {statement.name}: {error}\n  {statement.sql}") from error
            print(statement.kind, statement.name, flush=True)
    if any(statement.kind == "pipe" for statement in statements):
        say(
            f"c360 snowflake: allow in the AWS role what `describe integration {objects.landing(settings)}` names, and "
            "let the bucket tell its news to the notification_channel that `show pipes` names"
        )
    return DONE


def _cost(options: argparse.Namespace, settings: Settings) -> int:
    if options.days < 1:
        raise UsageError(f"--days: {options.days}; say 1 or more")
    names = sorted(set(objects.warehouses(settings).values()))
    with SnowflakeWarehouse(settings.snowflake).reading() as session:
        rows = cost.spent(session, names, options.days)
    output.write(cost.COLUMNS, rows, options.format)
    return DONE
