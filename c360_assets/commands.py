"""Commands: what each c360 command does, over the modules. Parsing of arguments is in cli.py.

dagster-dbt takes seconds to import: only the commands that run the graph import it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from duckdb import Error as DuckDBError

from c360_assets import audit as auditing
from c360_assets import entities, history, instants, local, output, persons, plan
from c360_assets.backup import BackupError
from c360_assets.cli import BLOCKED, DONE, ERROR, USAGE, UsageError, say

# A command has the name that the parser knows it by.
from c360_assets.commands_backup import backup as backup
from c360_assets.commands_backup import restore as restore
from c360_assets.commands_persons import export as export
from c360_assets.commands_persons import forget as forget
from c360_assets.commands_quarantine import quarantine as quarantine
from c360_assets.commands_services import api as api
from c360_assets.commands_services import dashboard as dashboard
from c360_assets.commands_services import prepare as prepare
from c360_assets.commands_services import up as up
from c360_assets.commands_services import worker as worker
from c360_assets.commands_snowflake import snowflake as snowflake
from c360_assets.commands_streams import stream as stream
from c360_assets.commands_streams import watch
from c360_assets.declared import DeclarationError
from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.erasure import ErasureError
from c360_assets.feeds import Feed, find_feed, load_feeds
from c360_assets.landing import LandingError
from c360_assets.lease import LeaseTaken
from c360_assets.quarantine import QuarantineError
from c360_assets.settings import ProjectError, Settings, SettingsError
from c360_assets.snowflake.objects import BootstrapError
from c360_assets.store import StoreRefused
from c360_assets.streams import StreamError
from c360_assets.warehouse import NotAQuery, NoWarehouse, Warehouse, WarehouseBusy, WarehouseRefused, open_warehouse

WRONG = (
    DeclarationError, SettingsError, QuarantineError, NotAQuery, UsageError,
    entities.EntityError, auditing.AuditError, BootstrapError,
)  # fmt: skip
FAILED = (
    BackupError,
    LeaseTaken,
    StoreRefused,
    StreamError,
    ErasureError,
    LandingError,
    ProjectError,
    NoWarehouse,
    WarehouseBusy,
    WarehouseRefused,
    history.NoSuchKey,
    persons.NobodyFound,
    BotoCoreError,
    ClientError,
    OSError,
)


Command = Callable[[argparse.Namespace, Settings], int]


def guarded(command: Command, options: argparse.Namespace, settings: Settings) -> int:
    """Runs a command; what goes wrong becomes a line and an exit code."""
    try:
        return command(options, settings)
    except WRONG as error:
        say(f"c360: {error}")
        return USAGE
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        say("c360: stopped")
        return ERROR
    except (*FAILED, DuckDBError) as error:
        say(f"c360: {error}")
        return ERROR


def land(options: argparse.Namespace, settings: Settings) -> int:
    feed = find_feed(_feeds(settings), options.feed)
    if bool(options.paths) == bool(options.watch):
        raise UsageError("say which files to land, PATH ..., or --watch DIR, and not both")
    if options.watch:
        return watch(options, settings, feed)
    files = list(_files(options.paths))
    twice = {f.name for f in files if sum(other.name == f.name for other in files) > 1}
    if twice:
        say(f"c360: two files are called '{sorted(twice)[0]}', and the base name is the key: land them one by one")
        return USAGE
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        for number, file in enumerate(files, 1):
            print(*bucket.put(feed, file), flush=True)
            if sys.stderr.isatty() and len(files) > 1:
                print(
                    f"\r{number} of {len(files)}", end="" if number < len(files) else "\n", file=sys.stderr, flush=True
                )
    return DONE


def sync(options: argparse.Namespace, settings: Settings) -> int:
    from c360_assets import runs

    with local.embedded_s3(settings) as endpoint:
        local.landing_bucket(settings).ensure()
        if options.plan:
            return _plan(options, settings, endpoint)
        with local.dagster_instance(settings) as instance:
            return runs.sync(settings, instance, rebuild=options.rebuild, everything=options.all, say=say)


def _plan(options: argparse.Namespace, settings: Settings, endpoint: str) -> int:
    """The run, on a copy of the warehouse, and what it changed there."""
    from c360_assets import runs

    if not settings.s3_endpoint:
        os.environ |= local.embedded_environment()
    warehouse = _warehouse(settings)
    with plan.rehearsal(settings, warehouse, endpoint) as copy:
        with local.dagster_instance(copy) as instance:
            code = runs.sync(
                copy, instance, rebuild=options.rebuild, everything=options.all, say=lambda text: say(f"plan: {text}")
            )
        found = plan.effects(warehouse, _warehouse(copy), list(entities.declared(settings.dbt_project).values()))
    rows = [(e.of, e.effect, e.count, list(e.examples)) for e in found]
    output.write(["of", "effect", "count", "examples"], rows, options.format)
    if not rows:
        say("plan: nothing would change")
    return code


def customer(options: argparse.Namespace, settings: Settings) -> int:
    entity = _entity(options, settings)
    as_of, known_at = _instant("--as-of", options.as_of), _instant("--known-at", options.known_at)
    with _warehouse(settings).reading() as session:
        spans = history.life(session, entity, options.id, known_at)
    if as_of:
        held = history.at(spans, as_of)
        spans = [held] if held else []
    if not spans:
        say(f"no {entity.name} {' '.join(options.id)}" + (f" at {options.as_of}" if as_of else "")
            + (f", as known at {options.known_at}" if known_at else ""))  # fmt: skip
        return ERROR
    if options.format == "table" and not as_of:
        names = ["from", "to", "change", "what"]
        output.write(names, [(s.valid_from, s.valid_to, s.change, s.changes) for s in spans], "table")
        return DONE
    names = ["valid_from", "valid_to", "change", *entity.attributes]
    rows = [(s.valid_from, s.valid_to, s.change, *((s.values or {}).get(a) for a in entity.attributes)) for s in spans]
    if options.format == "table":
        output.write(["column", "value"], list(zip(names, rows[0], strict=True)), "table")
    else:
        output.write(names, rows, options.format)
    return DONE


def explain(options: argparse.Namespace, settings: Settings) -> int:
    entity = _entity(options, settings)
    with _warehouse(settings).reading() as session:
        told = history.explain(session, entity, options.id)
    output.write(list(told[0]), [tuple(row.values()) for row in told], options.format)
    return DONE


def audit(options: argparse.Namespace, settings: Settings) -> int:
    """Exit code 2 where something is wrong, as of a check."""
    warehouse = DuckDBWarehouse(options.database) if options.database else _warehouse(settings)
    if options.database and not options.database.exists():
        raise UsageError(f"--database: there is no file {options.database}")
    with warehouse.reading() as session:
        found = auditing.run(session, vars(options))
    auditing.write(found, options.format)
    return DONE if found.is_right else BLOCKED


def entity(options: argparse.Namespace, settings: Settings) -> int:
    key = tuple(name for name, _ in entities.columns_of(options.key))
    tracked, type1 = entities.columns_of(options.tracked), entities.columns_of(options.type1)
    new = entities.write(entities.Declaration(options.name, key, tracked, type1), settings.dbt_project)
    for path in new:
        print(path)
    say(f"now declare a feed with `entity: {options.name}` in {settings.dbt_project / 'models' / 'staging'}")
    return DONE


def _entity(options: argparse.Namespace, settings: Settings) -> entities.Declaration:
    found = entities.find_entity(settings.dbt_project, options.entity)
    if len(options.id) != len(found.key):
        raise entities.EntityError(
            f"the key of {found.name} is {', '.join(found.key)}, and not of {len(options.id)} values"
        )
    return found


def _instant(option: str, text: str | None) -> datetime | None:
    """UTC without zone."""
    if text is None:
        return None
    try:
        return instants.read(text)
    except ValueError:
        raise UsageError(f"{option}: '{text}' is no instant; say 2026-11-21 or 2026-11-21T08:00:00Z") from None


def status(options: argparse.Namespace, settings: Settings) -> int:
    from c360_assets.status import status_of, write_status

    with _asked(settings) as told_from:
        write_status(status_of(*told_from), options.format)
    return DONE


def report(options: argparse.Namespace, settings: Settings) -> int:
    from c360_assets.report import report_of

    with _asked(settings) as told_from:
        told = report_of(*told_from)
    options.output.write_text(told.page())
    for line in told.summary:
        say(line)
    print(options.output)
    return DONE


@contextlib.contextmanager
def _asked(settings: Settings) -> Iterator[Any]:
    """What the state of a home is told from: feeds, bucket, warehouse, Dagster instance, its checks."""
    from c360_assets.definitions import build_defs

    with local.embedded_s3(settings), local.dagster_instance(settings) as instance:
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        warehouse, feeds = _warehouse(settings), _feeds(settings)
        graph = build_defs(settings, warehouse=warehouse, feeds=feeds).resolve_asset_graph()
        yield feeds, bucket, warehouse, instance, list(graph.asset_check_keys)


def predict(options: argparse.Namespace, settings: Settings) -> int:
    if options.as_of is not None:
        try:
            date.fromisoformat(options.as_of)
        except ValueError:
            raise UsageError(f"--as-of: '{options.as_of}' is no day; say for example 2026-03-15") from None
    known_at = _instant("--known-at", options.known_at)
    from c360_assets import predictions, runs

    if not predictions.is_installed():
        raise ProjectError(
            f"the extra predictions is not installed ({', '.join(predictions.LIBRARIES)}): "
            "pip install --no-deps --require-hashes -r requirements-all.lock"
        )
    with local.dagster_instance(settings) as instance:
        return runs.predict(settings, instance, as_of=options.as_of, known_at=known_at, say=say)


def query(options: argparse.Namespace, settings: Settings) -> int:
    sql = options.sql.strip().rstrip(";")
    if not sql:
        say("c360 query: the statement is empty")
        return USAGE
    if not sql.lower().startswith(("select", "with", "from", "show", "describe", "explain", "values", "summarize")):
        say(f"c360 query: reads only; '{sql.split()[0]}' is no query")
        return USAGE
    with _warehouse(settings).reading(options.wait) as session:
        names, rows = session.result(sql)
        output.write(names, rows, options.format)
    return DONE


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Each path checked before anything is put."""
    for path in paths:
        if path.is_dir():
            inside = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
            if not inside:
                raise LandingError(f"{path} is a folder without files")
            yield from inside
        elif path.is_file():
            yield path
        else:
            raise LandingError(f"{path} is no file and no folder; nothing was landed")


def _feeds(settings: Settings) -> dict[str, Feed]:
    return load_feeds([settings.dbt_project / "models" / "staging"])


def _warehouse(settings: Settings) -> Warehouse:
    return open_warehouse(settings, announce=say)
