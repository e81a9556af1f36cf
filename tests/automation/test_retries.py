"""What is tried again, and how often: real runs on an S3 that fails as it is told to."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from c360_assets import automation, staging
from c360_assets.landing import Bucket, LandingError
from c360_assets.warehouse import WarehouseBusy
from tests.parts import Platform

FEED = "customers"


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
