"""Landing: objects on S3, what of them is new, and the sensor that watches them.

Belongs here: listing, putting, the ledger's plan of a batch (pure), one sensor factory. An object is new when its etag
differs from the newest ledger row of its key; nothing depends on the order of keys or times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from c360_assets.feeds import Feed
from c360_assets.warehouse import NoWarehouse, Session, Warehouse, WarehouseBusy

ATTEMPTS = 5
BATCH_TAG, WAITING_TAG = "c360/batch", "c360/waiting"
# Ticks end after 60 s; the sensor leaves the warehouse alone if it is not to be had quickly.
SENSOR_WAIT = 5.0


class LandingError(RuntimeError):
    """S3 cannot be used as asked; the text says what, where and what to do."""


@dataclass(frozen=True, order=True)
class Listed:
    """One object version as S3 lists it. Sorted by age. Size in bytes, time UTC without zone."""

    last_modified: datetime
    key: str
    etag: str
    size: int


@dataclass(frozen=True)
class Bucket:
    """One bucket and the prefix that is ours in it."""

    client: Any
    name: str
    prefix: str

    def folder(self, feed: Feed) -> str:
        return f"{self.prefix}/{feed.prefix}" if self.prefix else feed.prefix

    def ensure(self) -> None:
        """Makes the bucket if there is none."""
        try:
            self.client.head_bucket(Bucket=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise LandingError(f"bucket '{self.name}' cannot be used: {error}") from None
            self.client.create_bucket(Bucket=self.name)

    def listed(self, feed: Feed) -> Iterator[Listed]:
        """Every object of the feed; folder markers are none."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.folder(feed))
        for page in pages:
            for found in page.get("Contents", ()):
                if not (found["Key"].endswith("/") and found["Size"] == 0):
                    yield Listed(
                        last_modified=found["LastModified"].astimezone(UTC).replace(tzinfo=None),
                        key=found["Key"],
                        etag=found["ETag"].strip('"'),
                        size=found["Size"],
                    )

    def put(self, feed: Feed, path: Path) -> tuple[str, str, str]:
        """Puts a file under the feed; returns key, etag and what became of it: new, same or overwritten."""
        key = self.folder(feed) + path.name
        before = self._etag(key)
        mtime = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
        with path.open("rb") as body:
            digest = hashlib.file_digest(body, "md5").hexdigest()
        if before == digest:
            return key, before, "same"
        self.client.upload_file(str(path), self.name, key, ExtraArgs={"Metadata": {"mtime": mtime}})
        after = self._etag(key)
        if after is None:
            raise LandingError(f"s3://{self.name}/{key} is gone right after it was put: is something deleting there?")
        return key, after, "new" if before is None else "same" if before == after else "overwritten"

    def put_text(self, feed: Feed, name: str, text: str, file_time: datetime) -> str:
        """Puts a file that is made here under the feed, with its file time, UTC without zone; returns its key."""
        key = self.folder(feed) + name
        mtime = file_time.replace(tzinfo=UTC).isoformat()
        self.client.put_object(Bucket=self.name, Key=key, Body=text.encode(), Metadata={"mtime": mtime})
        return key

    def _etag(self, key: str) -> str | None:
        try:
            return str(self.client.head_object(Bucket=self.name, Key=key)["ETag"]).strip('"')
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                return None
            raise


def plan_batch(listed: Iterable[Listed], known: Mapping[str, str], objects: int, size: int) -> list[Listed]:
    """The next batch: what is new against the ledger, oldest first, at most so many objects and bytes, at least one.

    `known`: {key: etag of its newest ledger row}.
    """
    batch: list[Listed] = []
    total = 0
    for new in sorted(o for o in listed if known.get(o.key) != o.etag):
        if batch and (len(batch) == objects or total + new.size > size):
            break
        batch.append(new)
        total += new.size
    return batch


def may_pass(error: BaseException) -> bool:
    """Is it worth asking S3 again after this error? A refusal or a missing bucket stays one."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return (
            status >= 500 or status in (408, 429) or error.response["Error"]["Code"] in ("SlowDown", "RequestTimeout")
        )
    return isinstance(error, BotoCoreError | LandingError)


def known_etags(session: Session, feed: Feed, keys: Sequence[str] | None = None) -> dict[str, str]:
    """{key: etag of its newest ledger row}, of these keys or of all. What was gone before it was read is not known: it
    may come again."""
    if "staging.object_ledger" not in session.tables():
        return {}  # a process died between making the file and its tables
    some = "" if keys is None else f"and key in ({', '.join('?' * len(keys)) or 'null'})"
    return dict(
        session.rows(
            f"""
            select key, etag from staging.object_ledger
            where feed = ? and status <> 'gone' {some}
            qualify row_number() over (partition by key order by batch desc) = 1
            """,
            [feed.name, *(keys or ())],
        )
    )


def landing_specs(feeds: Iterable[Feed]) -> list[dg.AssetSpec]:
    """What lies on S3 as assets that somebody else makes."""
    return [
        dg.AssetSpec(["landing", f.name], group_name="landing", kinds={"s3"}, description=f"Objects under {f.prefix}")
        for f in feeds
    ]


def landing_sensor(
    feed: Feed,
    job: dg.UnresolvedAssetJobDefinition,
    whole_job: str,
    bucket: Callable[[], Bucket],
    warehouse: Warehouse,
    *,
    objects: int,
    size: int,
    interval: int,
    pause: Callable[[int], float],
    worker: Callable[[], str | None] = lambda: None,
) -> dg.SensorDefinition:
    """The sensor of one feed: one run per batch of new objects, none while one is on its way.

    A run that failed is tried again with growing pauses; `pause` gives the seconds after the n-th failure. A success of
    `whole_job`, which does the same for all feeds, settles what failed before it. While there is a `worker` it is idle.
    """

    @dg.sensor(
        name=f"{feed.name}_landing_sensor",
        job=job,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"New objects of feed {feed.name}, told by the ledger: one run per batch.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason | dg.RunRequest:
        runs = context.instance.get_run_records(dg.RunsFilter(job_name=job.name), limit=ATTEMPTS + 1)
        if any(not r.dagster_run.is_finished for r in runs):
            return dg.SkipReason("a run of this feed is on its way")
        if at_work := worker():
            return dg.SkipReason(f"the worker brings it: {at_work}")
        try:
            listed = list(bucket().listed(feed))
        except (BotoCoreError, ClientError, LandingError) as error:
            return dg.SkipReason(f"no S3 answers: {error}")
        try:
            with warehouse.reading(SENSOR_WAIT) as session:
                known = known_etags(session, feed)
        except NoWarehouse:
            known = {}
        except WarehouseBusy as error:
            return dg.SkipReason(str(error))
        last = runs[0] if runs else None
        by_hand = context.instance.get_run_records(
            dg.RunsFilter(job_name=whole_job, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1
        )
        if last and by_hand and (by_hand[0].end_time or 0) > (last.end_time or 0):
            runs, last = [], None  # a sync has done since what failed then
        failed = last is not None and not last.dagster_run.is_success
        batch = plan_batch(listed, known, objects, size)
        if not batch and not failed:
            return dg.SkipReason("nothing new")
        name = batch_name(batch)
        attempt = 1 + _failures(runs, name)
        waiting = batch_name(plan_batch(listed, known, len(listed), sum(o.size for o in listed)))
        if attempt > ATTEMPTS and last and last.dagster_run.tags.get(WAITING_TAG, waiting) != waiting:
            attempt = 1  # something new landed since
        if attempt > ATTEMPTS:
            return dg.SkipReason(f"given up after {ATTEMPTS} failed runs; mend the cause and run c360 sync")
        if last is not None and attempt > 1 and last.end_time:
            left = last.end_time + pause(attempt - 1) - datetime.now(UTC).timestamp()
            if left > 0:
                return dg.SkipReason(f"attempt {attempt} in {left:.0f} s")
        # A run key is never launched twice, not even after a failure: the last run's id makes each attempt a new one.
        return dg.RunRequest(
            run_key=f"{name}-{attempt}-{last.dagster_run.run_id if last else 'first'}",
            tags={BATCH_TAG: name, WAITING_TAG: waiting, "c360/objects": str(len(batch))},
        )

    return watch


def batch_name(batch: Sequence[Listed]) -> str:
    """Equal for equal objects and contents."""
    return hashlib.sha256("\n".join(f"{o.key} {o.etag}" for o in batch).encode()).hexdigest()[:16]


def _failures(runs: Sequence[dg.RunRecord], name: str) -> int:
    """How many of the newest runs failed at this very batch, without a success or another batch between."""
    count = 0
    for record in runs:
        if record.dagster_run.is_success or record.dagster_run.tags.get(BATCH_TAG, name) != name:
            break
        count += 1
    return count
