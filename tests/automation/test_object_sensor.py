"""The sensor that a queue tells of new objects: real S3, its real events in a real queue, DuckDB and runs."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import dagster as dg
import pytest
from botocore.exceptions import EndpointConnectionError

from c360_assets import automation, lease, staging
from c360_assets.definitions import build_defs
from c360_assets.landing import Bucket
from c360_assets.object_events import ObjectEvents
from c360_assets.sensors import BATCH_TAG, EVENTS_SENSOR, LISTED_BESIDE, Watching, object_sensor
from c360_assets.settings import Settings
from tests.automation.test_sensors import body, held
from tests.parts import Platform, on_duckdb, read_already, settings_at, without_shop

FEEDS = ("customers", "pos")
# Seconds after which the queue tells again of what was not deleted, and how often before it gives a message up.
HIDDEN, TOLD = 2, 4


class Queue:
    """The queue of one bucket, and the one for what nobody could load."""

    def __init__(self, bucket: Bucket, endpoint: str) -> None:
        self.client: Any = boto3.client(
            "sqs", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
        )
        self.dead = self._made("dead")
        redrive = {"deadLetterTargetArn": self._arn(self.dead), "maxReceiveCount": str(TOLD)}
        self.url = self._made("q", VisibilityTimeout=str(HIDDEN), RedrivePolicy=json.dumps(redrive))
        told = {"QueueConfigurations": [{"QueueArn": self._arn(self.url), "Events": ["s3:ObjectCreated:*"]}]}
        bucket.client.put_bucket_notification_configuration(Bucket=bucket.name, NotificationConfiguration=told)
        self.events = ObjectEvents(self.client, self.url, bucket.name)

    def left(self, url: str = "") -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.client.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)
        return sum(int(value) for value in told["Attributes"].values())

    def _made(self, name: str, **attributes: str) -> str:
        return str(
            self.client.create_queue(QueueName=f"{name}-{uuid.uuid4().hex[:8]}", Attributes=attributes)["QueueUrl"]
        )

    def _arn(self, url: str) -> str:
        told = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(told["Attributes"]["QueueArn"])


class Told:
    """The sensor over the staging tables of two feeds; S3 is listed by nobody."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance, queue: Queue, objects: int = 3) -> None:
        self.platform, self.instance, self.queue, self.cursor = platform, instance, queue, ""
        self.events: Any = lambda: queue.events
        limits: Any = {"objects": objects, "size": 1 << 30}
        feeds = {name: platform.feeds[name] for name in FEEDS}
        jobs = {name: automation.feed_job(name, []) for name in FEEDS}
        bucket = Bucket(_NeverListed(platform.bucket.client), platform.bucket.name, platform.bucket.prefix)
        self.worker: str | None = None
        watching = Watching(
            lambda: bucket, platform.warehouse, automation.SYNC, **limits, interval=30, pause=lambda _: 0.0,
            worker=lambda: self.worker,
        )  # fmt: skip
        self.sensor = object_sensor(feeds, jobs, lambda: self.events(), watching)
        loads = [
            staging.staging_asset(
                feed, lambda: bucket, platform.warehouse, platform.settings.spool, **limits,
                retry_policy=dg.RetryPolicy(max_retries=0), pool=automation.POOL,
            )
            for feed in feeds.values()
        ]  # fmt: skip
        self.defs = dg.Definitions(
            assets=loads, jobs=[*jobs.values(), automation.sync_job()], sensors=[self.sensor],
            loggers={"console": automation.plain_lines},
        )  # fmt: skip

    def tick(self) -> list[dg.RunRequest] | str:
        context = dg.build_sensor_context(instance=self.instance, definitions=self.defs, cursor=self.cursor)
        told = self.sensor.evaluate_tick(context)
        if told.cursor is not None:
            self.cursor = told.cursor
        return list(told.run_requests or []) or str(told.skip_message)

    def runs(self, request: dg.RunRequest) -> bool:
        done = self.defs.resolve_job_def(str(request.job_name)).execute_in_process(
            instance=self.instance, tags=request.tags, run_config=request.run_config, raise_on_error=False
        )
        return bool(done.success)

    def goes_on(self, seconds: float = 20) -> int:
        """Ticks and runs until nothing waits and no message is left; how many runs there were."""
        until, count = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            told = self.tick()
            if isinstance(told, list):
                for request in told:
                    assert self.runs(request)
                    count += 1
            elif self.queue.left() == 0 and self.cursor in ("", "{}"):
                return count
            time.sleep(0.1)
        raise AssertionError(f"{self.queue.left()} messages are left, cursor {self.cursor}, last word {told}")

    def ledger(self) -> list[str]:
        rows = self.platform.rows("select key from staging.object_ledger order by key, batch")
        return [key.removeprefix("stream_data/") for (key,) in rows]


class _NeverListed:
    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        assert name != "get_paginator", "a bucket was listed"
        return getattr(self._client, name)


@pytest.fixture
def platform(settings: Settings, bucket: Bucket) -> Platform:
    return Platform(settings, bucket)


@pytest.fixture
def told(platform: Platform, instance: dg.DagsterInstance, bucket: Bucket, s3_endpoint: str) -> Iterator[Told]:
    yield Told(platform, instance, Queue(bucket, s3_endpoint))


def test_what_lands_is_loaded_by_a_run_per_feed_and_batch_and_nobody_lists(told: Told, platform: Platform) -> None:
    assert told.tick() == "nothing new"
    for number in range(5):
        platform.put(f"{number} ü+.csv", body(number))
    platform.put("r.json", b"{}", feed="pos")
    requests = told.tick()
    assert isinstance(requests, list)
    assert {r.job_name: r.tags["c360/objects"] for r in requests} == {"customers_batch": "3", "pos_batch": "1"}
    for request in requests:
        assert told.runs(request)
    assert told.goes_on() == 1
    assert told.ledger() == sorted([*(f"customers/{n} ü+.csv" for n in range(5)), "pos/r.json"])
    # An object that is written anew is told of again.
    platform.put("0 ü+.csv", body(77))
    assert told.goes_on() == 1
    assert told.ledger().count("customers/0 ü+.csv") == 2


def test_what_comes_while_a_run_is_on_its_way_waits_for_its_end_and_no_longer(told: Told, platform: Platform) -> None:
    platform.put("a.csv", body(1))
    job = told.defs.resolve_job_def("customers_batch")
    run = told.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert told.tick() == "customers: a run of this feed is on its way"
    told.instance.report_run_canceled(run)
    # At once, though the queue does not tell of it again before its time: the cursor has it.
    requests = told.tick()
    assert isinstance(requests, list) and len(requests) == 1
    assert told.runs(requests[0]) and told.goes_on() == 0


def test_a_failed_run_is_asked_for_again_with_the_same_objects(told: Told, platform: Platform) -> None:
    platform.put("a.csv", body(1))
    first = told.tick()
    assert isinstance(first, list)
    job = told.defs.resolve_job_def("customers_batch")
    run = told.instance.create_run_for_job(job, tags=dict(first[0].tags), status=dg.DagsterRunStatus.STARTED)
    told.instance.report_run_failed(run)
    second = told.tick()
    assert isinstance(second, list)
    assert second[0].run_key != first[0].run_key and second[0].tags[BATCH_TAG] == first[0].tags[BATCH_TAG]
    assert told.runs(second[0])
    # One that loaded and then failed is finished too, though nothing waits.
    run = told.instance.create_run_for_job(job, tags=dict(second[0].tags), status=dg.DagsterRunStatus.STARTED)
    told.instance.report_run_failed(run)
    third = told.tick()
    assert isinstance(third, list) and third[0].tags["c360/objects"] == "0"
    assert told.runs(third[0]) and told.goes_on() == 0


def test_an_object_that_went_or_changed_before_it_was_read_asks_for_no_run_for_ever(
    told: Told, platform: Platform, bucket: Bucket
) -> None:
    gone = platform.put("gone.csv", body(1))
    platform.put("changed.csv", body(2))
    requests = told.tick()
    assert isinstance(requests, list)
    bucket.client.delete_object(Bucket=bucket.name, Key=gone)
    platform.put("changed.csv", body(3))
    assert told.runs(requests[0])
    assert told.goes_on() <= 3
    statuses = dict(platform.rows("select key, status from staging.object_ledger"))
    assert statuses == {"stream_data/customers/gone.csv": "gone", "stream_data/customers/changed.csv": "loaded"}
    # It comes again with the same content.
    platform.put("gone.csv", body(1))
    assert told.goes_on() >= 1
    assert ("stream_data/customers/gone.csv", "loaded") in platform.rows(
        "select key, status from staging.object_ledger"
    )


def test_an_object_whose_newer_message_is_lost_is_left_to_the_listing(told: Told, platform: Platform) -> None:
    platform.put("a.csv", body(1))
    requests = told.tick()
    assert isinstance(requests, list)
    platform.put("a.csv", body(2))
    told.queue.client.purge_queue(QueueUrl=told.queue.url)
    assert told.runs(requests[0])
    assert told.goes_on() == 0
    assert told.ledger() == []


def test_what_nobody_can_read_ends_in_the_dead_letter_queue_and_holds_up_nothing(
    told: Told, platform: Platform
) -> None:
    told.queue.client.send_message(QueueUrl=told.queue.url, MessageBody="no JSON at all")
    platform.put("a.csv", body(1))
    assert told.goes_on(40) == 1
    assert told.queue.left(told.queue.dead) == 1


@on_duckdb
def test_a_held_warehouse_or_no_queue_is_a_reason_to_skip_and_loses_nothing(told: Told, platform: Platform) -> None:
    platform.put("first.csv", body(1))
    assert told.goes_on() == 1
    platform.put("a.csv", body(2))
    with held(platform, "dbt build"):
        reason = told.tick()
    assert isinstance(reason, str) and "(dbt build)" in reason

    def away() -> Any:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")

    told.events = away
    assert str(told.tick()).startswith("no queue answers: ")
    told.events, told.worker = (lambda: told.queue.events), "process 7"
    assert told.tick() == "the worker brings it: process 7"
    told.worker = None
    assert told.goes_on() == 1
    assert told.ledger() == ["customers/a.csv", "customers/first.csv"]


def test_the_sensor_takes_over_from_a_worker_that_is_not_heard_of_any_more(told: Told, platform: Platform) -> None:
    home = platform.settings.home
    home.mkdir(exist_ok=True)
    lease.beat(home)
    platform.put("a.csv", body(1))
    told.worker = lease.holder(home)
    assert str(told.tick()).startswith("the worker brings it: process ")
    told.worker = lease.holder(home, now=time.time() + lease.SILENCE + 1)
    assert told.goes_on() == 1
    assert told.ledger() == ["customers/a.csv"]


def test_the_graph_has_it_where_a_queue_is_named_and_lists_seldom_then(tmp_path: Any, bucket: Bucket) -> None:
    plain = settings_at(tmp_path / "plain", C360_DBT_PROJECT=str(without_shop()))
    queued = settings_at(tmp_path / "queued", C360_DBT_PROJECT=str(without_shop()), C360_EVENTS_QUEUE="http://q")
    for settings, is_told in ((plain, False), (queued, True)):
        sensors = {s.name: s for s in build_defs(read_already(settings), bucket=lambda: bucket).sensors or ()}
        assert (EVENTS_SENSOR in sensors) == is_told
        interval = sensors["customers_landing_sensor"].minimum_interval_seconds  # type: ignore[union-attr]
        assert interval == (LISTED_BESIDE if is_told else settings.sensor_interval)
