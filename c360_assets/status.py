"""Status: how each feed stands, what waits, what was refused, what the checks last said."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from c360_assets import instants, landing, output, stages
from c360_assets.feeds import Feed
from c360_assets.freshness import newest_events
from c360_assets.landing import Bucket
from c360_assets.warehouse import NoWarehouse, Session, Warehouse


@dataclass(frozen=True)
class FeedStatus:
    """One feed. `waiting`: objects on S3 that the ledger does not know; `lag_seconds`: age of the oldest of them."""

    feed: str
    objects: int
    waiting: int
    lag_seconds: float | None
    received: int
    accepted: int
    duplicates: int
    quarantined: int
    open_refusals: int
    last_loaded: datetime | None
    newest_event: datetime | None


@dataclass(frozen=True)
class CheckStatus:
    """The last word of one check: passed, failed, warns or never run."""

    asset: str
    check: str
    status: str
    at: datetime | None


@dataclass(frozen=True)
class Status:
    """The state of one home. `seconds`: how long the worker's batches of the last hour took to each stage."""

    feeds: list[FeedStatus]
    checks: list[CheckStatus]
    seconds: list[dict[str, Any]]


def status_of(
    feeds: Mapping[str, Feed],
    bucket: Bucket,
    warehouse: Warehouse,
    instance: dg.DagsterInstance,
    checks: list[dg.AssetCheckKey],
) -> Status:
    """Reads S3, the warehouse and the Dagster instance; a part that is not there yet counts as empty."""
    now = instants.now()
    try:
        with warehouse.reading() as session:
            ledgers = {f.name: landing.known_etags(session, f) for f in feeds.values()}
            counts, took = _counts(session), stages.seconds(session)
            happened = newest_events(session, feeds.values(), now)
    except NoWarehouse:
        ledgers, counts, took, happened = {}, {}, [], {}
    told = []
    for feed in feeds.values():
        known = ledgers.get(feed.name, {})
        waiting = [o for o in bucket.listed(feed) if known.get(o.key) != o.etag]
        oldest = min((o.last_modified for o in waiting), default=None)
        told.append(
            FeedStatus(
                feed=feed.name,
                objects=len(known),
                waiting=len(waiting),
                lag_seconds=round((now - oldest).total_seconds(), 1) if oldest else None,
                **counts.get(feed.name, _NOTHING),
                newest_event=happened.get(feed.name),
            )
        )
    records = last_checks(instance, checks)
    said = [check_status(key, records[key]) for key in sorted(checks, key=lambda k: k.to_user_string())]
    return Status(told, said, took)


def write_status(status: Status, form: str) -> None:
    """The status on stdout as `table` or `json`."""
    if form == "json":
        shown = json.loads(json.dumps(asdict(status), default=output.text_of))
        print(json.dumps(shown, indent=1))
        return
    feeds = [asdict(f) for f in status.feeds]
    if feeds:
        output.write(list(feeds[0]), [list(f.values()) for f in feeds], "table")
    if status.seconds:
        print("\nSeconds from the object to each stage, by the worker, in the last hour:")
        output.write(list(status.seconds[0]), [list(row.values()) for row in status.seconds], "table")
    passed = [c for c in status.checks if c.status == "passed"]
    print(f"\n{len(passed)} of {len(status.checks)} checks passed")
    rest = [c for c in status.checks if c.status != "passed"]
    if rest:
        output.write(
            ["asset", "check", "status", "at"], [(c.asset, c.check, c.status, c.at) for c in rest], "table", sys.stdout
        )


_NOTHING: dict[str, Any] = {
    "received": 0,
    "accepted": 0,
    "duplicates": 0,
    "quarantined": 0,
    "open_refusals": 0,
    "last_loaded": None,
}


def _counts(session: Session) -> dict[str, dict[str, Any]]:
    """Per feed, from the accounting; nothing where no run has come that far."""
    if not {"clean.accounting", "clean.quarantine"} <= session.tables():
        return {}
    rows = session.rows(
        """
        with counted as (
            select feed, sum(received) as received, sum(accepted) as accepted, sum(duplicates) as duplicates,
                sum(quarantined) as quarantined
            from clean.accounting where unit = 'row' group by feed
        ),
        refused as (
            select feed, count(*) as open_refusals from clean.quarantine group by feed
        ),
        seen as (
            select feed, max(loaded_at) as last_loaded from staging.object_ledger group by feed
        )
        select counted.feed, received, accepted, duplicates, quarantined, coalesce(open_refusals, 0), last_loaded
        from counted
        left join refused on counted.feed = refused.feed
        left join seen on counted.feed = seen.feed
        """
    )
    names = list(_NOTHING)
    return {str(feed): dict(zip(names, [*(int(v) for v in counts), last], strict=True)) for feed, *counts, last in rows}


def last_checks(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> dict[dg.AssetCheckKey, Any]:
    """{check: the record of its last evaluation, or None}. One that a run has only planned says nothing yet."""
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    found: dict[dg.AssetCheckKey, Any] = {}
    for key in keys:
        record = newest.get(key)
        found[key] = (
            record if record is None or _is_finished(record) else next(iter(finished_checks(instance, key)), None)
        )
    return found


def finished_checks(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> list[Any]:
    """The records of the check's last evaluations, newest first."""
    return [r for r in instance.event_log_storage.get_asset_check_execution_history(key, limit=30) if _is_finished(r)]


def _is_finished(record: Any) -> bool:
    return bool(record.event) and record.event.dagster_event.event_type_value == "ASSET_CHECK_EVALUATION"


def check_status(key: dg.AssetCheckKey, record: Any) -> CheckStatus:
    """From the newest record that the instance has of the check, or None."""
    asset = key.asset_key.to_user_string()
    event = record.event.dagster_event if record and record.event else None
    evaluation = event.asset_check_evaluation_data if event else None
    if record is None or evaluation is None:
        return CheckStatus(asset, key.name, "never run", None)
    if evaluation.passed:
        word = "passed"
    else:
        word = "failed" if evaluation.severity == dg.AssetCheckSeverity.ERROR else "warns"
    return CheckStatus(asset, key.name, word, instants.utc(datetime.fromtimestamp(record.create_timestamp, UTC)))
