"""Definitions: the wiring of the code location, and nothing else.

Importing this connects to nothing and reads no environment; `defs` does, when Dagster asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from c360_assets import alerts, automation, checks, local, predictions, report, serve, staging, transform
from c360_assets.entities import declared
from c360_assets.erasure import forgotten_of
from c360_assets.feeds import Feed, load_feeds
from c360_assets.freshness import freshness_checks
from c360_assets.landing import Bucket, landing_specs
from c360_assets.laps import Resident, laps_of
from c360_assets.lease import holder
from c360_assets.pending import pending_feeds
from c360_assets.persons import hidden_columns
from c360_assets.registers import prepare_tables, register_specs
from c360_assets.retention import pruning_sensor
from c360_assets.sensors import SENSOR_WAIT, Watching, sensors_of
from c360_assets.settings import Settings
from c360_assets.snowflake.arrivals import fetching_of
from c360_assets.store import Store
from c360_assets.warehouse import Warehouse, open_warehouse


def build_defs(
    settings: Settings,
    *,
    warehouse: Warehouse | None = None,
    bucket: Callable[[], Bucket] | None = None,
    feeds: Mapping[str, Feed] | None = None,
    manifest: Path | None = None,
    resident: Resident | None = None,
) -> dg.Definitions:
    """A fresh graph for the settings; tests hand in parts of their own. `resident`: of a process that stays."""
    warehouse = warehouse or open_warehouse(settings)
    feeds = feeds if feeds is not None else load_feeds([settings.dbt_project / "models" / "staging"])
    bucket = bucket or (lambda: local.landing_bucket(settings))
    manifest = manifest or transform.prepare_manifest(settings.dbt_project, settings.dbt_home, warehouse)
    lineage = transform.lineage_of(manifest, feeds)
    hidden = hidden_columns(declared(settings.dbt_project), feeds)
    limits: Any = {"objects": settings.batch_objects, "size": settings.batch_bytes}
    policy: Any = {"retry_policy": automation.RETRIES, "pool": automation.POOL} if resident is None else resident.policy
    beside: Any = {"between": resident.between} if resident else {}
    fetched: Any = {"fetching": fetching_of(settings), "forgotten": forgotten_of(settings)} | limits | policy
    fetched |= resident.loading if resident else {}
    loads = [staging.staging_asset(f, bucket, warehouse, settings.spool, **fetched) for f in feeds.values()]
    build = transform.transform_assets(
        settings.dbt_project, manifest, feeds, lineage, warehouse,
        prepare=lambda session: prepare_tables(session, list(feeds.values())),
        held_up=lambda session, names: checks.held_up(session, [feeds[name] for name in sorted(names)], hidden),
        hidden=hidden, warm=resident.dbt if resident else None, **policy,
    )  # fmt: skip
    seen = [*landing_specs(feeds.values()), *register_specs([each.key for each in loads], warehouse.engine)]
    jobs = {name: automation.feed_job(name, lineage.not_made_of([name])) for name in feeds}
    quick = [automation.seconds_job(f, lap.tables, lap.gates) for f, lap in laps_of(manifest, lineage).items()]
    sync = automation.sync_job()
    watched = limits | {"interval": settings.sensor_interval, "worker": partial(holder, settings.home)}
    watching = Watching(bucket, warehouse, automation.SYNC, pause=automation.pause, **watched)
    pruning = pruning_sensor(watched["worker"], settings.dagster_home)
    sensors = [*sensors_of(feeds, jobs, watching, local.object_events_of(settings)), pruning]
    if told_by := alerts.channels(settings):
        sensors.append(alerts.alert_sensor(told_by, automation.SYNC, {automation.PREDICTIONS}, feeds, warehouse))
    staged_checks = [checks.staging_checks(f, warehouse, hidden, **beside) for f in feeds.values()]
    staged_checks += freshness_checks(feeds.values(), warehouse, lineage.feeds_of)
    every_check = [*build.check_keys, *(key for check in staged_checks for key in check.check_keys)]
    built = [*build.keys, *(load.key for load in loads)]
    page = report.report_asset(feeds, bucket, warehouse, settings.home, built, every_check, **beside)
    told = predictions.prediction_assets(warehouse, lineage.feeds_of, tags=automation.BY_PREDICTION, **policy)
    beside |= policy | {"store": partial(Store, settings.serving_url), "checks": every_check}
    served = serve.serving_assets(settings.dbt_project, lineage.feeds_of, warehouse, **beside)
    fresh = automation.freshness({dg.AssetKey(["staging", f.name]): f.fresh_within_hours for f in feeds.values()})
    schedules = automation.schedules(
        sync, lambda: pending_feeds(feeds, lineage, bucket(), warehouse, SENSOR_WAIT), lineage.not_made_of,
        worker=watched["worker"], with_predictions=bool(told),
    )  # fmt: skip
    assets: Any = [*seen, *loads, build, *served, page, *told]
    return dg.Definitions(
        assets=automation.with_policies(assets, fresh, warehouse.engine),
        asset_checks=staged_checks,
        jobs=[sync, *jobs.values(), *quick],
        schedules=schedules,
        sensors=sensors,
        executor=dg.in_process_executor,
        loggers={"console": automation.plain_lines},
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build_defs(Settings.load())
