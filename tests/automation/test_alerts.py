"""Who is told of a failed run, and what is tried again: a real webhook, real runs."""

from __future__ import annotations

import json
import threading
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from c360_assets import automation, staging, transform
from c360_assets.definitions import build_defs
from c360_assets.landing import Bucket, LandingError
from c360_assets.settings import Settings
from c360_assets.warehouse import WarehouseBusy
from tests.parts import Platform

FEED = "customers"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home)) as made:
        yield made


# --- the webhook


@dataclass
class Webhook:
    """What a webhook was sent; it answers with `status`."""

    address: str = ""
    status: int = 200
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            hook.posts.append((self.headers["Content-Type"], json.loads(sent)))
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook.address = f"http://127.0.0.1:{server.server_port}/services/T0/B0/secret"
    yield hook
    server.shutdown()
    server.server_close()


@dg.op
def breaks() -> None:
    raise RuntimeError("the customers' table is on fire")


@dg.job(name="customers_batch")
def failing_job() -> None:
    breaks()


def failure_context(instance: dg.DagsterInstance) -> dg.RunFailureSensorContext:
    result = failing_job.execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    return dg.build_run_status_sensor_context(
        sensor_name="failure_alert",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
    ).for_run_failure()


def test_a_failed_run_is_told_to_the_webhook_as_slack_takes_it(webhook: Webhook, instance: dg.DagsterInstance) -> None:
    context = failure_context(instance)
    automation.failure_alert(webhook.address)(context)
    ((kind, sent),) = webhook.posts
    assert kind == "application/json"
    assert list(sent) == ["text"]
    assert context.dagster_run.run_id[:8] in sent["text"]
    assert "customers_batch" in sent["text"] and "failed" in sent["text"]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_webhook_that_refuses_fails_the_tick(webhook: Webhook, instance: dg.DagsterInstance, status: int) -> None:
    webhook.status = status
    context = failure_context(instance)
    with pytest.raises(Exception, match=str(status)) as raised:
        automation.failure_alert(webhook.address)(context)
    told = raised.value
    assert isinstance(told, urllib.error.HTTPError) or isinstance(told.__cause__, urllib.error.HTTPError)


def test_a_webhook_that_does_not_answer_fails_the_tick(instance: dg.DagsterInstance) -> None:
    context = failure_context(instance)
    with pytest.raises(Exception, match="refused") as raised:
        automation.failure_alert("http://127.0.0.1:9/hook")(context)
    told = raised.value
    assert isinstance(told, urllib.error.URLError) or isinstance(told.__cause__, urllib.error.URLError)


def test_quotes_and_letters_of_any_language_reach_the_webhook(webhook: Webhook) -> None:
    automation.post(webhook.address, 'Łódź "quoted"\n<&>')
    assert webhook.posts == [("application/json", {"text": 'Łódź "quoted"\n<&>'})]


def test_there_is_an_alert_with_a_webhook_and_none_without(tmp_path: Path) -> None:
    # Without feeds there is little graph; the manifest is the project's.
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(EMPTY_MANIFEST))
    manifest.with_name(transform.FINGERPRINT).write_text("p1")

    def sensors(**environment: str) -> set[str]:
        settings = Settings.load({"C360_HOME": str(tmp_path)} | environment)
        return {s.name for s in build_defs(settings, manifest=manifest).sensors or ()}

    without = sensors()
    assert without and "failure_alert" not in without
    assert sensors(C360_ALERT_WEBHOOK="http://127.0.0.1:9/") == without | {"failure_alert"}


def test_the_webhook_is_shown_nowhere_for_it_is_a_secret(tmp_path: Path) -> None:
    settings = Settings.load({"C360_HOME": str(tmp_path), "C360_ALERT_WEBHOOK": "http://127.0.0.1:9/secret"})
    assert "secret" not in repr(settings)


EMPTY_MANIFEST: dict[str, Any] = {
    "metadata": {"adapter_type": "duckdb", "project_name": "c360"},
    "nodes": {
        "model.c360.customer_rows": {
            "unique_id": "model.c360.customer_rows", "resource_type": "model", "name": "customer_rows",
            "alias": "customer_rows", "schema": "clean", "database": "warehouse", "description": "", "tags": [],
            "config": {"meta": {}, "materialized": "view"}, "meta": {}, "columns": {}, "fqn": ["c360", "customer_rows"],
            "depends_on": {"nodes": []}, "original_file_path": "models/clean/customer_rows.sql", "package_name": "c360",
            "raw_code": "select 1", "relation_name": "x",
        }
    },
    "sources": {}, "metrics": {}, "exposures": {}, "semantic_models": {}, "saved_queries": {}, "unit_tests": {},
    "groups": {}, "selectors": {}, "child_map": {"model.c360.customer_rows": []},
    "parent_map": {"model.c360.customer_rows": []}, "macros": {}, "docs": {}, "disabled": {},
}  # fmt: skip


# --- retries


class Flaky:
    """An S3 client whose listing fails the first times it is asked."""

    def __init__(self, client: Any, failures: int, error: Exception) -> None:
        self._client = client
        self.left = failures
        self.error = error
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        if name == "get_paginator":
            self.asked += 1
            if self.left:
                self.left -= 1
                raise self.error
        return getattr(self._client, name)


def answer(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "ListObjectsV2"
    )


def load_through(
    platform: Platform, instance: dg.DagsterInstance, flaky: Flaky, retries: dg.RetryPolicy
) -> dg.ExecuteInProcessResult:
    load = staging.staging_asset(
        platform.feeds[FEED],
        lambda: Bucket(flaky, platform.bucket.name, platform.bucket.prefix),
        platform.warehouse,
        platform.settings.spool,
        objects=10,
        size=1 << 30,
        retry_policy=retries,
        pool=automation.POOL,
    )
    defs = dg.Definitions(assets=[load], jobs=[automation.sync_job()], loggers={"console": automation.plain_lines})
    return defs.resolve_job_def(automation.SYNC).execute_in_process(instance=instance, raise_on_error=False)


QUICK = dg.RetryPolicy(max_retries=3, delay=0.01)


def retried(result: dg.ExecuteInProcessResult) -> int:
    return sum(e.event_type_value == "STEP_UP_FOR_RETRY" for e in result.all_events)


def test_pauses_between_tries_grow_and_differ_between_runs() -> None:
    policy = automation.RETRIES
    assert policy.max_retries == 3
    plain = [policy._replace(jitter=None).calculate_delay(n) for n in (1, 2, 3)]
    assert plain[0] >= 1 and plain[1] >= 2 * plain[0] and plain[2] >= 2 * plain[1]
    assert len({policy.calculate_delay(1) for _ in range(10)}) > 1


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://s3"),
        answer("SlowDown", 503),
        answer("InternalError", 500),
        LandingError("no S3 answers"),
        WarehouseBusy("held by process 1"),
        ConnectionResetError("reset by peer"),
    ],
    ids=lambda e: str(e)[:30],
)
def test_a_passing_error_is_tried_again_until_it_passes(
    platform: Platform, instance: dg.DagsterInstance, error: Exception
) -> None:
    platform.put("a.csv", b"customer_id,city\n1,Rome\n")
    flaky = Flaky(platform.bucket.client, 2, error)
    result = load_through(platform, instance, flaky, QUICK)
    assert result.success
    assert retried(result) == 2
    assert platform.rows("select count(*) from staging.customers") == [(1,)]


def test_an_error_that_does_not_pass_fails_the_run_after_the_tries_that_the_policy_has(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    flaky = Flaky(platform.bucket.client, 99, answer("SlowDown", 503))
    result = load_through(platform, instance, flaky, QUICK)
    assert not result.success
    assert flaky.asked == 1 + (QUICK.max_retries or 0)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug of ours"),
        ValueError("column 'unblocked_at' of the o'clock is not declared"),
        answer("AccessDenied", 403),
        answer("InvalidAccessKeyId", 403),
        answer("SignatureDoesNotMatch", 403),
        answer("NoSuchBucket", 404),
    ],
    ids=lambda e: str(e).split("(")[-1][:18],
)
def test_a_lasting_error_is_not_tried_again(platform: Platform, instance: dg.DagsterInstance, error: Exception) -> None:
    flaky = Flaky(platform.bucket.client, 99, error)
    result = load_through(platform, instance, flaky, QUICK)
    assert not result.success
    assert (flaky.asked, retried(result)) == (1, 0)
    (failed,) = result.get_step_failure_events()
    assert str(error) in str(failed.step_failure_data.error)
