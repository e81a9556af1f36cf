"""Commands: what each c360 command does, over the modules. Parsing of arguments is in cli.py.

dagster-dbt takes seconds to import: only the commands that run the graph import it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from duckdb import Error as DuckDBError

from c360_assets import local, output
from c360_assets import quarantine as register
from c360_assets.cli import DONE, ERROR, USAGE, say
from c360_assets.feeds import DeclarationError, Feed, find_feed, load_feeds
from c360_assets.landing import LandingError
from c360_assets.quarantine import Choice, QuarantineError
from c360_assets.settings import PROJECT, ProjectError, Settings, SettingsError
from c360_assets.warehouse import NotAQuery, NoWarehouse, Warehouse, WarehouseBusy, open_warehouse

WRONG = (DeclarationError, SettingsError, QuarantineError, NotAQuery)
FAILED = (LandingError, ProjectError, NoWarehouse, WarehouseBusy, BotoCoreError, ClientError, OSError)


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

    with local.embedded_s3(settings), local.dagster_instance(settings) as instance:
        local.landing_bucket(settings).ensure()
        return runs.sync(settings, instance, rebuild=options.rebuild, say=say)


def status(options: argparse.Namespace, settings: Settings) -> int:
    from c360_assets.definitions import build_defs
    from c360_assets.status import status_of, write_status

    with local.embedded_s3(settings), local.dagster_instance(settings) as instance:
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        warehouse, feeds = _warehouse(settings), _feeds(settings)
        graph = build_defs(settings, warehouse=warehouse, feeds=feeds).resolve_asset_graph()
        write_status(status_of(feeds, bucket, warehouse, instance, list(graph.asset_check_keys)), options.format)
    return DONE


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


def prepare(options: argparse.Namespace, settings: Settings) -> int:
    from c360_assets import transform

    _feeds(settings)
    transform.prepare_manifest(settings.dbt_project, settings.dbt_home, _warehouse(settings))
    return DONE


def up(options: argparse.Namespace, settings: Settings) -> int:
    """S3, Dagster and, if asked, the generator, until Ctrl-C; whatever stops first stops the rest."""
    # Set anew also for Ctrl-C: a shell may have started us, and would start our children, with it ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    with local.embedded_s3(settings) as endpoint:
        local.landing_bucket(settings).ensure()
        with local.dagster_instance(settings) as instance:
            local.reap(instance, settings.spool, alone=True)
        prepare(options, settings)
        started = [
            subprocess.Popen(
                [Path(sys.executable).with_name("dagster"), "dev", "-w", PROJECT / "workspace.yaml",
                 "-p", str(options.port), "-h", "127.0.0.1"],
                cwd=settings.dagster_home, start_new_session=True,
            )
        ]  # fmt: skip
        say(f"Dagster UI: http://127.0.0.1:{options.port}   S3: {endpoint}   Ctrl-C stops it all")
        if options.generate:
            started += _generators(settings, endpoint)
        try:
            # A generator that has sent all it had is done, and no reason to stop.
            while started[0].poll() is None and not any(p.poll() for p in started):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    started[0].wait(1)
            say("c360 up: a part has stopped")
            return ERROR
        except KeyboardInterrupt:
            say("stopping")
            return DONE
        finally:
            for process in reversed(started):
                local.stop(process, patience=20, ask=signal.SIGINT)


def quarantine(options: argparse.Namespace, settings: Settings) -> int:
    feeds = _feeds(settings)
    if options.feed:
        find_feed(feeds, options.feed)
    choice = Choice(options.feed, options.key, options.row, options.reason)
    warehouse = _warehouse(settings)
    if options.action in ("list", "show"):
        with warehouse.reading() as session:
            found = register.entries(session, choice, options.limit)
        names = ["feed", "_key", "_row", "stage", "reasons", "refused_at"]
        rows: list[Sequence[object]] = [(e.feed, e.key, e.row, e.stage, list(e.reasons), e.refused_at) for e in found]
        if options.action == "show":
            names, rows = [*names, "raw"], [(*row, e.raw) for row, e in zip(rows, found, strict=True)]
        output.write(names, rows, options.format)
        return DONE
    if choice == Choice() and not options.all:
        say(f"c360 quarantine {options.action}: say which with --feed, --key, --row or --reason, or --all")
        return USAGE
    with warehouse.reading() as session:
        found = register.entries(session, choice)
    if not found:
        say("nothing in quarantine fits")
        return DONE
    if options.action == "dismiss":
        register.decide(warehouse, found, "dismiss", options.why)
        say(f"{len(found)} refusals dismissed")
        return DONE
    from c360_assets import runs

    with local.embedded_s3(settings), local.dagster_instance(settings) as instance:
        replayed = register.replay(warehouse, local.landing_bucket(settings), feeds, found, settings.spool)
        for entry, why in replayed.still_refused:
            say(f"still refused: {entry.key} record {entry.row}: {why}")
        say(f"{replayed.cleaning} rows go through cleaning again, {replayed.read} records could be read after all")
        return runs.sync(settings, instance, rebuild=False, say=say)


# What `up --generate` lands, now and then: a feed and what its generator is told.
GENERATED = {
    "customers": ("--customers", "1000", "--days", "1", "--interval", "150", "--rows-per-file", "500", "--rate", "0.1"),
    "pos": ("--stores", "5", "--days", "3", "--interval", "600", "--receipts-per-object", "50", "--rate", "0.1"),
}


def _generators(settings: Settings, endpoint: str) -> list[subprocess.Popen[bytes]]:
    environment = os.environ | {"AWS_ENDPOINT_URL": endpoint}
    if not settings.s3_endpoint:
        environment |= {
            "AWS_ACCESS_KEY_ID": local.EMBEDDED["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": local.EMBEDDED["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    out = f"s3://{settings.bucket}/{settings.prefix}"
    return [
        subprocess.Popen(
            [sys.executable, "-m", "generator", feed, *told, "--faults", "--out", out],
            cwd=PROJECT, env=environment, start_new_session=True,
        )
        for feed, told in GENERATED.items()
    ]  # fmt: skip


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
