"""Sensors: when a run of a feed is asked for, because something new lies on S3.

Belongs here: one sensor for each feed, which lists it, and one for all of them where S3 tells a queue of its objects.
The ledger says what is new, to both. A tick asks for at most one run of a feed, and for none while one is on its way. A
warehouse that sleeps is not woken for nothing: it is asked when something is listed that was not, or told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from c360_assets import instants
from c360_assets.automation import PAST_THE_HOUR
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, LandingError, Listed, batch_name, known_etags, plan_batch, settled
from c360_assets.object_events import ObjectEvents
from c360_assets.warehouse import NoWarehouse, Session, Warehouse, WarehouseBusy

ATTEMPTS = 5
BATCH_TAG, WAITING_TAG = "c360/batch", "c360/waiting"
# Ticks end after 60 s; a sensor leaves the warehouse alone if it is not to be had quickly.
SENSOR_WAIT = 5.0
# Seconds between two listings of a feed whose objects a queue tells of: what its messages missed.
LISTED_BESIDE = 600
EVENTS_SENSOR = "object_events_sensor"
# What stays so until something lands or runs.
NOTHING_NEW, GIVEN_UP = "nothing new", f"given up after {ATTEMPTS} failed runs; mend the cause and run c360 sync"

Asked = dg.RunRequest | dg.SkipReason


@dataclass(frozen=True)
class Watching:
    """What all sensors go by. `pause`: seconds after the n-th failure; a success of `whole_job`, which does the same
    for all feeds, settles what failed before it. While there is a `worker` they are idle."""

    bucket: Callable[[], Bucket]
    warehouse: Warehouse
    whole_job: str
    objects: int
    size: int
    interval: int
    pause: Callable[[int], float]
    worker: Callable[[], str | None] = field(default=lambda: None)


def sensors_of(
    feeds: Mapping[str, Feed],
    jobs: Mapping[str, dg.UnresolvedAssetJobDefinition],
    watching: Watching,
    events: Callable[[], ObjectEvents | None] | None,
) -> list[dg.SensorDefinition]:
    """The sensors of all feeds; `events`: the queue that tells of their objects, where there is one."""
    listing = [landing_sensor(f, jobs[f.name], watching, is_told=events is not None) for f in feeds.values()]
    return [*listing, object_sensor(feeds, jobs, events, watching)] if events else listing


def landing_sensor(
    feed: Feed, job: dg.UnresolvedAssetJobDefinition, watching: Watching, *, is_told: bool = False
) -> dg.SensorDefinition:
    """The sensor of one feed, which lists it; seldom where it `is_told` of its objects by a queue."""

    @dg.sensor(
        name=f"{feed.name}_landing_sensor",
        job=job,
        minimum_interval_seconds=max(watching.interval, LISTED_BESIDE) if is_told else watching.interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"New objects of feed {feed.name}, told by the ledger: one run per batch.",
    )
    def watch(context: dg.SensorEvaluationContext) -> Asked:
        runs = _last_runs(context, job)
        if _is_running(runs):
            return dg.SkipReason("a run of this feed is on its way")
        if at_work := watching.worker():
            return dg.SkipReason(f"the worker brings it: {at_work}")
        try:
            listed = list(watching.bucket().listed(feed))
        except (BotoCoreError, ClientError, LandingError) as error:
            return dg.SkipReason(f"no S3 answers: {error}")
        sync = _last_sync(context, watching)
        # What was said holds for the hour: of this listing, after these runs.
        hour = instants.hour(instants.now(), PAST_THE_HOUR)
        after = [each.dagster_run.run_id for each in (*runs[:1], *sync)]
        seen = [hour, batch_name(listed), after] if watching.warehouse.sleeps else []
        *before, said = json.loads(context.cursor or "[[]]")
        if seen and seen == before:
            return dg.SkipReason(said)
        try:
            known = _known(watching.warehouse, lambda session: known_etags(session, feed))
        except WarehouseBusy as error:
            return dg.SkipReason(str(error))
        asked = _asked(job, watching, runs, sync, listed, known)
        if seen and isinstance(asked, dg.SkipReason) and asked.skip_message in (NOTHING_NEW, GIVEN_UP):
            context.update_cursor(json.dumps([*seen, asked.skip_message]))
        return asked

    return watch


def object_sensor(
    feeds: Mapping[str, Feed],
    jobs: Mapping[str, dg.UnresolvedAssetJobDefinition],
    events: Callable[[], ObjectEvents | None],
    watching: Watching,
) -> dg.SensorDefinition:
    """The sensor of all feeds, which a queue tells of new objects: nothing is listed, by it or by the runs it asks for.

    A message is deleted when the ledger has its object; until then the queue tells of it again and again, and whatever
    nobody can load ends in the queue's own dead-letter queue. What waits for a run to end is kept in the cursor.
    """

    @dg.sensor(
        name=EVENTS_SENSOR,
        jobs=list(jobs.values()),
        minimum_interval_seconds=watching.interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="New objects of which S3 tells a queue: one run per feed and batch.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if at_work := watching.worker():
            return dg.SkipReason(f"the worker brings it: {at_work}")
        waiting = {name: {o.key: o for o in some} for name, some in _read(context.cursor).items() if name in feeds}
        try:
            queue, bucket = events(), watching.bucket()
            if queue is None:
                return dg.SkipReason("no queue tells of objects: C360_EVENTS_QUEUE names one")
            arrivals = queue.receive(1, watching.objects)
        except (BotoCoreError, ClientError, LandingError) as error:
            return dg.SkipReason(f"no queue answers: {error}")
        whose = {arrival: _feed_of(arrival.listed, feeds, bucket) for arrival in arrivals}
        for arrival, feed in whose.items():
            if feed is not None:
                _note(waiting.setdefault(feed.name, {}), arrival.listed)

        def ask(session: Session) -> dict[str, dict[str, str]]:
            return {name: settled(session, feeds[name], list(some.values())) for name, some in waiting.items()}

        try:
            known = _known(watching.warehouse, ask) if any(waiting.values()) else {}
        except WarehouseBusy as error:
            # The messages come again; what the cursor holds stays in it.
            return dg.SkipReason(str(error))
        queue.done(
            arrival
            for arrival, feed in whose.items()
            if feed is None or known.get(feed.name, {}).get(arrival.listed.key) == arrival.listed.etag
        )
        sync = _last_sync(context, watching)
        requests: list[dg.RunRequest] = []
        left: dict[str, list[Listed]] = {}
        skipped: list[str] = []
        for name, job in jobs.items():
            # Beyond a batch they are left to the queue, which tells of them again.
            batch = plan_batch(waiting.get(name, {}).values(), known.get(name, {}), watching.objects, watching.size)
            runs = _last_runs(context, job)
            if batch and runs and runs[0].dagster_run.is_success and _is_of(runs[0], batch):
                continue  # it has met others under these keys: their own messages tell of them, or the next listing
            if batch:
                left[name] = batch
            if _is_running(runs):
                skipped += [f"{name}: a run of this feed is on its way"] if batch else []
                continue
            asked = _asked(job, watching, runs, sync, batch, {}, is_told=name)
            if isinstance(asked, dg.RunRequest):
                requests.append(asked)
            elif batch:
                skipped.append(f"{name}: {asked.skip_message}")
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "; ".join(skipped) or NOTHING_NEW,
            cursor=_written(left),
        )

    return watch


def _asked(
    job: dg.UnresolvedAssetJobDefinition,
    watching: Watching,
    runs: Sequence[dg.RunRecord],
    sync: Sequence[dg.RunRecord],
    listed: Sequence[Listed],
    known: Mapping[str, str],
    *,
    is_told: str = "",
) -> Asked:
    """The run that these objects ask for, if any. A run that failed is tried again with growing pauses.

    `is_told`: the feed, where these are not all of its objects: the run is told which it is to load.
    """
    last = runs[0] if runs else None
    if last and sync and (sync[0].end_time or 0) > (last.end_time or 0):
        runs, last = [], None  # a sync has done since what failed then
    failed = last is not None and not last.dagster_run.is_success
    batch = plan_batch(listed, known, watching.objects, watching.size)
    if not batch and not failed:
        return dg.SkipReason(NOTHING_NEW)
    name = batch_name(batch)
    attempt = 1 + _failures(runs, name)
    waiting = batch_name(plan_batch(listed, known, len(listed), sum(o.size for o in listed)))
    if attempt > ATTEMPTS and last and last.dagster_run.tags.get(WAITING_TAG, waiting) != waiting:
        attempt = 1  # something new landed since
    if attempt > ATTEMPTS:
        return dg.SkipReason(GIVEN_UP)
    if last is not None and attempt > 1 and last.end_time:
        left = last.end_time + watching.pause(attempt - 1) - datetime.now(UTC).timestamp()
        if left > 0:
            return dg.SkipReason(f"attempt {attempt} in {left:.0f} s")
    # A run key is never launched twice, not even after a failure: the last run's id makes each attempt a new one.
    return dg.RunRequest(
        run_key=f"{name}-{attempt}-{last.dagster_run.run_id if last else 'first'}",
        job_name=job.name if is_told else None,
        tags={BATCH_TAG: name, WAITING_TAG: waiting, "c360/objects": str(len(batch))},
        run_config=_told(is_told, batch) if is_told else {},
    )


def _told(feed: str, batch: Iterable[Listed]) -> dict[str, Any]:
    """The configuration of a run that is to load these and no others."""
    objects = [asdict(o) | {"last_modified": o.last_modified.isoformat()} for o in batch]
    return {"ops": {f"staging__{feed}": {"config": {"max_batches": 1, "told": objects}}}}


def _last_runs(context: dg.SensorEvaluationContext, job: dg.UnresolvedAssetJobDefinition) -> Sequence[dg.RunRecord]:
    return context.instance.get_run_records(dg.RunsFilter(job_name=job.name), limit=ATTEMPTS + 1)


def _last_sync(context: dg.SensorEvaluationContext, watching: Watching) -> Sequence[dg.RunRecord]:
    """The last run of everything that succeeded, if there was one."""
    done = dg.RunsFilter(job_name=watching.whole_job, statuses=[dg.DagsterRunStatus.SUCCESS])
    return context.instance.get_run_records(done, limit=1)


def _is_of(record: dg.RunRecord, batch: Sequence[Listed]) -> bool:
    return record.dagster_run.tags.get(BATCH_TAG) == batch_name(batch)


def _is_running(runs: Iterable[dg.RunRecord]) -> bool:
    return any(not r.dagster_run.is_finished for r in runs)


def _known(warehouse: Warehouse, ask: Callable[[Session], dict[str, Any]]) -> dict[str, Any]:
    """What the ledger says; nothing where there is none yet.

    Raises:
        WarehouseBusy: if it cannot be read soon.
    """
    try:
        with warehouse.reading(SENSOR_WAIT) as session:
            return ask(session)
    except NoWarehouse:
        return {}


def _failures(runs: Sequence[dg.RunRecord], name: str) -> int:
    """How many of the newest runs failed at this very batch, without a success or another batch between."""
    count = 0
    for record in runs:
        if record.dagster_run.is_success or record.dagster_run.tags.get(BATCH_TAG, name) != name:
            break
        count += 1
    return count


def _feed_of(listed: Listed, feeds: Mapping[str, Feed], bucket: Bucket) -> Feed | None:
    return next((feed for feed in feeds.values() if listed.key.startswith(bucket.folder(feed))), None)


def _note(some: dict[str, Listed], told: Listed) -> None:
    """Events of one key come in any order: the latest tells what is there."""
    before = some.get(told.key)
    if before is None or before.last_modified <= told.last_modified:
        some[told.key] = told


def _read(cursor: str | None) -> dict[str, list[Listed]]:
    told: dict[str, list[tuple[str, str, str, int]]] = json.loads(cursor or "{}")
    return {
        name: [Listed(datetime.fromisoformat(at), key, etag, size) for at, key, etag, size in some]
        for name, some in told.items()
    }


def _written(waiting: Mapping[str, Sequence[Listed]]) -> str:
    told = {n: [(o.last_modified.isoformat(), o.key, o.etag, o.size) for o in some] for n, some in waiting.items()}
    return json.dumps(told, separators=(",", ":"))
