"""The landing sensor: one run per batch of new objects, told by the ledger; real S3, DuckDB and runs on an instance on disk."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dagster as dg
import duckdb
import pytest

from c360_assets import automation, instants, staging
from c360_assets.definitions import build_defs
from c360_assets.landing import Bucket, LandingError
from c360_assets.sensors import ATTEMPTS, BATCH_TAG, GIVEN_UP, SENSOR_WAIT, Watching, landing_sensor
from c360_assets.settings import Settings
from tests.parts import Platform, at_length, on_duckdb, read_already

FEED = "customers"


def body(number: int) -> bytes:
    return f"customer_id,city,updated_at\n{number},Rome,2024-01-01T00:00:00Z\n".encode()


class Broken(RuntimeError):
    """What a run meets that another try would meet again."""


class Watch:
    """One feed's sensor and job over a graph of its staging table alone, on an instance on disk."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance, *, objects: int = 3, size: int = 1 << 30):
        self.platform = platform
        self.instance = instance
        self.pauses: list[int] = []
        self.cursor: str | None = None
        self.pause = 0.0
        self.broken = False
        self.bucket: Callable[[], Bucket] = lambda: platform.bucket
        feed = platform.feeds[FEED]
        limits: Any = {"objects": objects, "size": size}
        unresolved = automation.feed_job(FEED, [])
        watching = Watching(
            lambda: self.bucket(), platform.warehouse, automation.SYNC, **limits, interval=30, pause=self._paused
        )
        self.sensor = self._sensor(unresolved, watching)
        load = staging.staging_asset(
            feed, self._for_runs, platform.warehouse, platform.settings.spool, **limits,
            retry_policy=dg.RetryPolicy(max_retries=0), pool=automation.POOL,
        )  # fmt: skip
        self.defs = dg.Definitions(
            assets=[load],
            jobs=[unresolved, automation.sync_job()],
            sensors=[self.sensor],
            loggers={"console": automation.plain_lines},
        )
        self.job = self.defs.resolve_job_def(unresolved.name)

    def _sensor(self, job: dg.UnresolvedAssetJobDefinition, watching: Watching) -> dg.SensorDefinition:
        return landing_sensor(self.platform.feeds[FEED], job, watching)

    def _paused(self, failures: int) -> float:
        self.pauses.append(failures)
        return self.pause

    def _for_runs(self) -> Bucket:
        if self.broken:
            raise Broken("out of order")
        return self.platform.bucket

    def tick(self) -> dg.RunRequest | str:
        """The run that the sensor asks for, or why it asks for none."""
        context = dg.build_sensor_context(instance=self.instance, definitions=self.defs, cursor=self.cursor)
        told = self.sensor.evaluate_tick(context)
        self.cursor = told.cursor or self.cursor
        assert len(told.run_requests or []) <= 1
        if told.run_requests:
            assert told.skip_message is None
            return told.run_requests[0]
        assert told.skip_message
        return told.skip_message

    def asks(self) -> dg.RunRequest:
        told = self.tick()
        assert isinstance(told, dg.RunRequest), told
        return told

    def skips(self) -> str:
        told = self.tick()
        assert isinstance(told, str), f"a run was asked for: {told}"
        return told

    def runs(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What Dagster makes of a request."""
        return self.job.execute_in_process(
            instance=self.instance,
            tags=request.tags,
            run_config=request.run_config or None,
            raise_on_error=False,
        )

    def fails(self, request: dg.RunRequest) -> None:
        """A run of the request that ended in failure, as the instance keeps it."""
        run = self.instance.create_run_for_job(self.job, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED)
        self.instance.report_run_failed(run)

    def breaks(self, request: dg.RunRequest) -> None:
        """The requested run, executed, meets an error."""
        self.broken = True
        assert not self.runs(request).success
        self.broken = False

    def ledger(self) -> list[str]:
        return [
            key.rsplit("/", 1)[-1]
            for (key,) in self.platform.rows("select key from staging.object_ledger order by batch, key")
        ]


@pytest.fixture
def platform(settings: Settings, bucket: Bucket) -> Platform:
    """Nothing is there yet."""
    return Platform(settings, bucket)


@pytest.fixture
def watch(platform: Platform, instance: dg.DagsterInstance) -> Watch:
    return Watch(platform, instance)


@contextmanager
def held(platform: Platform, purpose: str) -> Iterator[None]:
    """The warehouse in another's hands: a lock is its file handle's, so a thread stands for a process."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with platform.warehouse.held(purpose):
            taken.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(10)
    try:
        yield
    finally:
        done.set()
        holder.join()


# --- none is asked for


def test_without_s3_the_sensor_skips_and_says_what_to_start(watch: Watch) -> None:
    def none() -> Bucket:
        raise LandingError("no S3 answers for /home: start it with `c360 up`")

    watch.bucket = none
    assert "start it with `c360 up`" in watch.skips()


def test_an_s3_that_stopped_answering_is_a_reason_to_skip_not_a_failed_tick(watch: Watch, platform: Platform) -> None:
    import boto3
    from botocore.config import Config

    dead = boto3.client(
        "s3", endpoint_url="http://127.0.0.1:9", region_name="us-east-1", aws_access_key_id="t",
        aws_secret_access_key="t", config=Config(retries={"max_attempts": 1}, connect_timeout=1),
    )  # fmt: skip
    watch.bucket = lambda: Bucket(dead, platform.bucket.name, platform.bucket.prefix)
    assert watch.skips().startswith("no S3 answers: ")


def test_a_bucket_that_is_not_there_is_a_reason_to_skip(watch: Watch, platform: Platform) -> None:
    watch.bucket = lambda: Bucket(platform.bucket.client, "not-there", "")
    assert "NoSuchBucket" in watch.skips()


def test_nothing_new_is_a_reason_to_skip_before_and_after_a_load(watch: Watch, platform: Platform) -> None:
    assert watch.skips() == "nothing new"
    platform.put("a.csv", body(1))
    assert watch.runs(watch.asks()).success
    assert watch.skips() == "nothing new"


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_none_is_asked_for_while_a_run_of_the_feed_is_on_its_way(watch: Watch, platform: Platform, status: str) -> None:
    platform.put("a.csv", body(1))
    watch.instance.create_run_for_job(watch.job, status=dg.DagsterRunStatus[status])
    # The warehouse is not even opened: there is none yet, and none is made.
    assert watch.skips() == "a run of this feed is on its way"
    assert not platform.settings.duckdb_path.exists()


def test_a_run_of_another_feed_holds_up_nothing(watch: Watch, platform: Platform) -> None:
    platform.put("a.csv", body(1))

    @dg.op
    def nothing() -> None: ...

    @dg.job(name="orders_batch")
    def other() -> None:
        nothing()

    watch.instance.create_run_for_job(other, status=dg.DagsterRunStatus.STARTED)
    assert isinstance(watch.asks(), dg.RunRequest)


@on_duckdb
def test_a_held_warehouse_is_a_reason_to_skip_that_names_its_holder(watch: Watch, platform: Platform) -> None:
    platform.load()
    platform.put("a.csv", body(1))
    with held(platform, "dbt build"):
        before = time.monotonic()
        reason = watch.skips()
        # Bounded: a tick that waits longer than a minute is killed.
        assert time.monotonic() - before < 30
    assert "still held by process" in reason and "(dbt build)" in reason
    assert isinstance(watch.asks(), dg.RunRequest)


def test_a_warehouse_without_a_ledger_counts_as_empty(watch: Watch, platform: Platform) -> None:
    """As a process leaves it that dies after the file was made and before the tables were."""
    platform.put("a.csv", body(1))
    platform.settings.duckdb_path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.connect(str(platform.settings.duckdb_path)).close()
    assert watch.runs(watch.asks()).success
    assert watch.ledger() == ["a.csv"]


def test_a_warehouse_that_sleeps_is_asked_once_about_a_listing_and_then_by_the_hour(
    watch: Watch, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float | None] = []
    reading = platform.warehouse.reading
    monkeypatch.setattr(platform.warehouse, "sleeps", True)
    monkeypatch.setattr(instants, "hour", lambda *_: 1)
    monkeypatch.setattr(platform.warehouse, "reading", lambda wait=None: asked.append(wait) or reading(wait))

    platform.put("a.csv", body(1))
    for _ in range(ATTEMPTS):
        watch.breaks(watch.asks())  # tried again, though nothing else is listed
    asked.clear()
    assert len({watch.skips() for _ in range(3)}) == 1 and asked.count(SENSOR_WAIT) == 1
    platform.put("a.csv", body(0))
    assert watch.runs(watch.asks()).success
    asked.clear()
    assert [watch.skips() for _ in range(3)] == ["nothing new"] * 3 and asked.count(SENSOR_WAIT) == 1
    platform.put("a.csv", body(2))
    assert watch.runs(watch.asks()).success
    assert watch.skips() == "nothing new" and asked.count(SENSOR_WAIT) == 3
    # Whatever has become of the ledger meanwhile is found within the hour.
    with platform.warehouse.writing("test") as session:
        session.execute("delete from staging.object_ledger")
    assert watch.skips() == "nothing new" and asked.count(SENSOR_WAIT) == 3
    monkeypatch.setattr(instants, "hour", lambda *_: 2)
    watch.asks()


# --- one is asked for


def test_one_run_is_asked_for_per_batch_and_a_batch_is_bounded(watch: Watch, platform: Platform) -> None:
    for number in range(7):
        platform.put(f"{number}.csv", body(number))
    loaded = []
    for expected in (3, 3, 1):
        request = watch.asks()
        assert request.tags["c360/objects"] == str(expected)
        assert watch.runs(request).success
        loaded.append(len(watch.ledger()))
    assert loaded == [3, 6, 7]
    assert watch.skips() == "nothing new"
    assert sorted(watch.ledger()) == [f"{number}.csv" for number in range(7)]


def test_a_batch_is_bounded_in_bytes_and_one_large_object_is_still_a_batch(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch = Watch(platform, instance, objects=100, size=len(body(0)) * 2)
    for number in range(3):
        platform.put(f"{number}.csv", body(number))
    platform.put("large.csv", b"customer_id,city\n" + b"9,Rome\n" * 1_000)
    sizes = []
    while isinstance(request := watch.tick(), dg.RunRequest):
        sizes.append(int(request.tags["c360/objects"]))
        assert watch.runs(request).success
    assert sum(sizes) == 4 and max(sizes) == 2
    assert watch.skips() == "nothing new"


def test_an_unchanged_tick_asks_for_the_same_run_key_so_dagster_launches_it_once(
    watch: Watch, platform: Platform
) -> None:
    platform.put("a.csv", body(1))
    first = watch.asks()
    assert watch.asks().run_key == first.run_key
    platform.put("b.csv", body(2))
    assert watch.asks().run_key != first.run_key


def test_keys_in_any_order_and_objects_that_share_a_second_are_all_seen(watch: Watch, platform: Platform) -> None:
    # S3 tells times to the second: all of these share one or two, and come against the order of their names.
    first = [f"{letter}.csv" for letter in "mzak"]
    for name in first:
        platform.put(name, body(ord(name[0])))
    while isinstance(request := watch.tick(), dg.RunRequest):
        assert watch.runs(request).success
    for name in ("b.csv", "0.csv", "zz.csv"):  # between, before and after what is known, perhaps in the same second
        platform.put(name, body(len(name) + ord(name[0])))
    platform.put("m.csv", body(77))  # and one overwritten
    while isinstance(request := watch.tick(), dg.RunRequest):
        assert watch.runs(request).success
    assert sorted(watch.ledger()) == sorted([*first, "b.csv", "0.csv", "zz.csv", "m.csv"])


def test_a_thousand_keys_are_seen_in_one_tick(platform: Platform, instance: dg.DagsterInstance) -> None:
    watch = Watch(platform, instance, objects=2_000)
    for number in range(1_010):  # more than one page of a listing
        platform.put(f"{number:04}.csv", b"customer_id\n")
    assert watch.asks().tags["c360/objects"] == "1010"


# --- failures


def test_a_failed_batch_is_asked_for_again_under_a_new_run_key_after_its_pause(
    watch: Watch, platform: Platform
) -> None:
    platform.put("a.csv", body(1))
    first = watch.asks()
    watch.breaks(first)
    watch.pause = 3_600
    reason = watch.skips()
    assert re.fullmatch(r"attempt 2 in 3[56]\d\d s", reason)
    assert watch.pauses == [1]
    watch.pause = 0
    second = watch.asks()
    assert second.run_key != first.run_key
    assert second.tags[BATCH_TAG] == first.tags[BATCH_TAG]
    assert watch.runs(second).success
    assert watch.skips() == "nothing new"


def test_pauses_grow_with_each_failure_of_a_batch_up_to_an_hour(watch: Watch, platform: Platform) -> None:
    platform.put("a.csv", body(1))
    for _ in range(3):
        watch.fails(watch.asks())
    watch.asks()
    assert watch.pauses == [1, 2, 3]
    pauses = [automation.pause(n) for n in range(1, 20)]
    assert pauses[:3] == [30, 60, 120]
    assert pauses == sorted(pauses) and pauses[-1] == 3600


def test_after_so_many_failures_the_sensor_gives_up_and_says_so(watch: Watch, platform: Platform) -> None:
    platform.put("a.csv", body(1))
    keys = set()
    for _ in range(ATTEMPTS):
        request = watch.asks()
        keys.add(request.run_key)
        watch.fails(request)
    assert len(keys) == ATTEMPTS
    assert watch.skips() == f"given up after {ATTEMPTS} failed runs; mend the cause and run c360 sync"
    assert "given up" in watch.skips()


def give_up(watch: Watch) -> None:
    for _ in range(ATTEMPTS):
        watch.fails(watch.asks())
    assert "given up" in watch.skips()


def test_new_objects_after_giving_up_start_afresh(watch: Watch, platform: Platform) -> None:
    platform.put("a.csv", body(1))
    give_up(watch)
    platform.put("b.csv", body(2))
    request = watch.asks()
    assert request.tags["c360/objects"] == "2"
    assert watch.runs(request).success
    assert watch.ledger() == ["a.csv", "b.csv"]


def test_new_objects_start_afresh_after_giving_up_on_a_full_batch(watch: Watch, platform: Platform) -> None:
    """The oldest objects fill the batch, so what comes after them does not change it."""
    for name in "abc":
        platform.put(f"{name}.csv", body(ord(name)))
    give_up(watch)
    time.sleep(1.1)  # a later second: it sorts after them
    platform.put("d.csv", body(4))
    assert watch.runs(watch.asks()).success


@pytest.mark.parametrize("sleeps", [False, True])
def test_a_sync_by_hand_ends_the_giving_up(
    watch: Watch, platform: Platform, sleeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sensor itself told people to do."""
    monkeypatch.setattr(platform.warehouse, "sleeps", sleeps)
    platform.put("a.csv", body(1))
    give_up(watch)
    assert watch.skips() == GIVEN_UP
    assert watch.defs.resolve_job_def(automation.SYNC).execute_in_process(instance=watch.instance).success
    assert watch.ledger() == ["a.csv"]
    # One run more at most: the sensor knows of its own job's runs.
    if isinstance(told := watch.tick(), dg.RunRequest):
        assert told.tags["c360/objects"] == "0"
        assert watch.runs(told).success
    assert watch.skips() == "nothing new"


def test_a_sync_by_hand_ends_the_giving_up_on_what_follows_a_load(watch: Watch, platform: Platform) -> None:
    """Everything was loaded, and what comes after it failed again and again, until somebody mended it."""
    platform.put("a.csv", body(1))
    request = watch.asks()
    platform.load()
    watch.fails(request)
    give_up(watch)
    assert watch.defs.resolve_job_def(automation.SYNC).execute_in_process(instance=watch.instance).success
    if isinstance(told := watch.tick(), dg.RunRequest):
        assert watch.runs(told).success
    assert watch.skips() == "nothing new"


def test_a_run_that_loaded_and_then_failed_is_finished_although_nothing_is_new(
    watch: Watch, platform: Platform
) -> None:
    platform.put("a.csv", body(1))
    request = watch.asks()
    platform.load()
    watch.fails(request)
    again = watch.asks()
    assert again.tags["c360/objects"] == "0"
    assert watch.runs(again).success
    assert watch.skips() == "nothing new"


def test_a_success_between_failures_starts_the_count_afresh(watch: Watch, platform: Platform) -> None:
    platform.put("a.csv", body(1))
    for _ in range(ATTEMPTS - 1):
        watch.fails(watch.asks())
    # By hand: a run of the feed's job that no sensor asked for and no batch is written on.
    assert watch.job.execute_in_process(instance=watch.instance).success
    platform.put("b.csv", body(2))
    watch.pauses.clear()
    watch.fails(watch.asks())
    watch.asks()
    assert watch.pauses == [1]


# --- the real graph


@at_length
def test_the_requested_run_of_the_definitions_loads_exactly_its_batch(
    settings: Settings, platform: Platform, instance: dg.DagsterInstance
) -> None:
    bounded = replace(settings, batch_objects=2)
    defs = build_defs(read_already(bounded), bucket=lambda: platform.bucket)
    sensor = defs.resolve_sensor_def("customers_landing_sensor")
    for number in range(5):
        platform.put(f"{number}.csv", body(number))

    def tick() -> Any:
        return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, definitions=defs))

    (request,) = tick().run_requests
    assert request.tags["c360/objects"] == "2"
    job = defs.resolve_job_def("customers_batch")
    result = job.execute_in_process(instance=instance, tags=request.tags, run_config=request.run_config or None)
    assert result.success
    batches = platform.rows("select count(*), count(distinct batch) from staging.object_ledger")
    assert batches == [(2, 1)]
    ((loaded,),) = platform.rows("select count(*) from core.customer")
    assert loaded == 2
    (following,) = tick().run_requests
    assert following.run_key != request.run_key and following.tags["c360/objects"] == "2"
