"""`c360 snowflake`: what the account has to have, what it costs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from c360_assets import entities, output
from c360_assets.cli import DONE, USAGE, UsageError, say
from c360_assets.feeds import Feed, load_feeds
from c360_assets.settings import Settings, SettingsError
from c360_assets.snowflake import cost, native, objects
from c360_assets.snowflake.native import Merged
from c360_assets.snowflake.objects import Statement, Wanted
from c360_assets.snowflake.warehouse import SnowflakeWarehouse
from c360_assets.warehouse import WarehouseRefused

SHOWN = 2000


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
        personal = entities.personal_columns(settings.dbt_project)
        statements = objects.bootstrap(settings, wanted, feeds, personal)
        if options.native is not None:
            statements += _native(options.native, settings, feeds, [entity.name for entity in declared])
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


def _native(
    wanted: Sequence[str], settings: Settings, feeds: Mapping[str, Feed], there: Sequence[str]
) -> list[Statement]:
    # Imported here: dbt takes seconds, which the other commands need not pay.
    from c360_assets.transform import entities_alone

    if unknown := sorted(set(wanted) - set(there)):
        raise UsageError(f"--native: no entity is called {', '.join(unknown)}; there are: {', '.join(sorted(there))}")
    gated = sorted({feed.entity for feed in feeds.values() if feed.entity and any(e.blocks for e in feed.expect)})
    if refused := [name for name in gated if name in (wanted or there)]:
        raise UsageError(
            f"--native: {', '.join(refused)}: a feed has an expectation of severity block, to which no task holds; "
            "name the other entities, or let it warn"
        )
    warehouse = SnowflakeWarehouse(settings.snowflake)
    rendered = entities_alone(settings.dbt_project, settings.dbt_home, warehouse, list(wanted or there))
    return native.native(settings, feeds, {name: Merged.read(models) for name, models in rendered.items()})


def _run(statements: Sequence[Statement], settings: Settings) -> int:
    """Each statement in turn; the first that is refused is named, and may be run again with those behind it."""
    with SnowflakeWarehouse(settings.snowflake).writing("bootstrap") as session:
        for statement in statements:
            try:
                session.execute(statement.sql)
            except Exception as error:
                first = (
                    " (the tables of --native are made by c360 sync: once, before)"
                    if statement.kind == "stream"
                    else ""
                )
                text = statement.sql if len(statement.sql) < SHOWN else f"{statement.sql[:SHOWN]} ..."
                raise WarehouseRefused(f"{statement.kind} {statement.name}: {error}{first}\n  {text}") from error
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
