"""Runs: one run of the whole graph from a command, in this process, with its outcome told in lines and an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

import dagster as dg

from c360_assets import automation, event_log, local, transform
from c360_assets.cli import BLOCKED, DONE, ERROR
from c360_assets.definitions import build_defs
from c360_assets.feeds import load_feeds
from c360_assets.pending import pending_feeds
from c360_assets.processes import run_here
from c360_assets.settings import ProjectError, Settings
from c360_assets.warehouse import Warehouse, open_warehouse


def sync(
    settings: Settings,
    instance: dg.DagsterInstance,
    *,
    rebuild: bool = False,
    everything: bool = False,
    say: Callable[[str], None],
) -> int:
    """Loads all that is new and builds what is made of it, up to the last layer; returns the exit code.

    `everything`: also what has nothing new, and all its checks; a rebuild is of everything.
    """
    with quiet(settings), event_log.kept_open():
        warehouse = open_warehouse(settings, announce=say)
        feeds = load_feeds([settings.dbt_project / "models" / "staging"])
        manifest = transform.prepare_manifest(settings.dbt_project, settings.dbt_home, warehouse)
        selection: set[str] | None = None
        lineage = transform.lineage_of(manifest, feeds)
        if not rebuild and not everything:
            news = pending_feeds(feeds, lineage, local.landing_bucket(settings), warehouse)
            if not news:
                say("nothing new; c360 sync --all makes and checks everything all the same")
                return DONE
            if news != feeds.keys():
                selection = news
        defs = build_defs(settings, warehouse=warehouse, feeds=feeds, manifest=manifest)
        graph = defs.resolve_asset_graph()
        result = run_here(
            defs.resolve_job_def(automation.SYNC),
            instance,
            config={"ops": {"dbt_build": {"config": {"rebuild": rebuild}}}},
            selection=sorted(automation.made_of(selection, lineage.not_made_of(selection)).resolve(graph))
            if selection
            else None,
        )
    return _told(result, say)


def work(
    settings: Settings,
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    stop: Callable[[], bool],
    say: Callable[[str], None],
) -> None:
    """The worker, until `stop`."""
    from c360_assets.worker import Worker  # dbt with it, which no other run needs in this process

    with quiet(settings), event_log.kept_open():
        at_work = Worker(settings, instance, warehouse, partial(local.object_events, settings), build_defs, say)
        say("worker: at work; Ctrl-C stops it")
        at_work.run(stop)


def predict(
    settings: Settings,
    instance: dg.DagsterInstance,
    *,
    as_of: str | None = None,
    known_at: datetime | None = None,
    say: Callable[[str], None],
) -> int:
    """Makes the predictions as of the day, YYYY-MM-DD or the last one, by what was known at an instant, or is now;
    returns the exit code."""
    with quiet(settings):
        warehouse = open_warehouse(settings, announce=say)
        defs = build_defs(settings, warehouse=warehouse)
        if automation.PREDICTIONS not in {job.name for job in defs.resolve_all_job_defs()}:
            raise ProjectError(
                f"the dbt project {settings.dbt_project} lacks what predictions read: gold.fct_orders and others"
            )
        job = defs.resolve_job_def(automation.PREDICTIONS)
        asked = {"as_of": as_of or "", "known_at": known_at.isoformat() if known_at else ""}
        result = run_here(job, instance, config={"ops": {name: {"config": asked} for name in job.graph.node_dict}})
    for made in result.get_asset_materialization_events():
        found, table = made.materialization.metadata, made.materialization.asset_key.to_user_string()
        say(f"{table}: {found['dagster/row_count'].value} rows as of {found['as of'].value}")
    return _told(result, say)


def _told(result: dg.ExecuteInProcessResult, say: Callable[[str], None]) -> int:
    failed = [c for c in result.get_asset_check_evaluations() if not c.passed]
    for check in failed:
        word = "failed" if check.severity == dg.AssetCheckSeverity.ERROR else "warns"
        say(f"check {check.asset_key.to_user_string()}: {check.check_name} {word}")
    # Of a model's test that failed only the run's own end says that it held something up.
    if any(c.severity == dg.AssetCheckSeverity.ERROR and (c.blocking or not result.success) for c in failed):
        say(f"run {result.run_id[:8]}: a blocking check failed; what comes after it was not built")
        return BLOCKED
    if not result.success:
        say(f"run {result.run_id[:8]} failed: {_first_error(result)}")
        return ERROR
    say(f"run {result.run_id[:8]} done")
    return DONE


def _first_error(result: dg.ExecuteInProcessResult) -> str:
    for event in result.get_step_failure_events():
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return str(error.message).strip()
    return "no step says why; see the run in the Dagster UI"


@contextlib.contextmanager
def quiet(settings: Settings) -> Iterator[None]:
    """dbt and Dagster write much to stdout and stderr; the run keeps all of it. C360_TRACE lets it through."""
    if settings.trace:
        yield
        return
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    saved = os.dup(1), os.dup(2)
    hole = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    os.dup2(hole, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved[0], 1)
        for descriptor in (*saved, hole):
            os.close(descriptor)
