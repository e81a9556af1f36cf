"""The worker on Snowflake: a lap is a run of Dagster with dbt in this process, over the real connector and dbt-snowflake."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg

from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from tests.parts import Platform, command_environment, on_both, on_duckdb
from tests.platform.test_till import item, put, receipt
from tests.proxy import LOGIN, QUERY, Between, Fault, between

pytestmark = [on_duckdb, on_both]

FIRST = b"customer_id,first_name,city,updated_at,op\n1,Ada,Rome,2024-01-01,I\n2,Bob,Oslo,2024-01-01,I\n"
LATER = b"customer_id,first_name,city,updated_at,op\n1,Ada,Bonn,2024-01-03,U\n2,Bob,Oslo,2024-01-04,D\n"
LATE = b"customer_id,first_name,city,updated_at,op\n1,Ada,Lyon,2024-01-02,U\n"
PATIENCE = 240.0


@contextmanager
def at_work(platform: Platform, endpoint: str, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`c360 worker` once it is at work; what it says goes to `said`. It is asked to end, and must."""
    environment = command_environment(platform.settings.home, platform.bucket, endpoint, platform.warehouse)
    environment["C360_DBT_PROJECT"] = str(platform.project)
    with said.open("wb") as heard:
        running = subprocess.Popen(
            [Path(sys.executable).with_name("c360"), "worker"], env=environment, stdout=heard, stderr=heard
        )
        try:
            until = time.monotonic() + PATIENCE
            while "at work" not in said.read_text():
                assert time.monotonic() < until and running.poll() is None, said.read_text()
                time.sleep(0.2)
            yield running
        finally:
            running.terminate()
            running.wait(120)


def through(network: Between, settings: Settings, bucket: Bucket) -> Platform:
    return Platform(replace(settings, snowflake=replace(settings.snowflake, port=network.port)), bucket)


def until_there(platform: Platform, table: str, count: int, worker: subprocess.Popen[bytes], said: Path) -> None:
    until = time.monotonic() + PATIENCE
    while platform.rows(f"select count(*) from {table}") != [(count,)]:
        assert time.monotonic() < until and worker.poll() is None, said.read_text()
        time.sleep(1)


def test_what_lands_is_in_core_and_gold_also_after_a_failed_lap(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, s3_endpoint: str, fakesnow: int, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    embedded = Platform(settings, bucket).begin()
    with between(fakesnow) as network:
        platform = through(network, on_snowflake, bucket)
        network.faults.append(Fault(QUERY, "copy into staging.customers", answer=("000604", "Query was canceled")))
        with at_work(platform, s3_endpoint, said) as worker:
            platform.put("1.csv", FIRST)
            put(platform, "1", receipt("t1", item("p1", 4)))
            until_there(platform, "core.customer_log", 2, worker, said)
            platform.put("2.csv", LATER)
            until_there(platform, "core.customer_log", 4, worker, said)
            platform.put("3.csv", LATE)
            until_there(platform, "core.customer_log", 5, worker, said)
            until_there(platform, "gold.daily_sales_summary", 1, worker, said)
            assert worker.poll() is None
        assert worker.returncode == 0
        assert network.faults[0].met == 1
        assert "again in 2 s" in said.read_text()
        # The units of work of a lap share a connection.
        assert any(
            any("copy into staging" in each for each in statements)
            and any("into staging.batch_times" in each for each in statements)
            for statements in network.sessions.values()
        )
        for feed in ("customers", "pos"):
            embedded.load(feed)
        embedded.build()
        assert platform.digest() == embedded.digest()
        ((batches,),) = platform.rows("select count(*) from staging.batch_times where core_at is not null")
        assert batches >= 3
        with dg.DagsterInstance.from_config(str(platform.settings.dagster_home)) as instance:
            made = instance.get_latest_materialization_event(dg.AssetKey(["core", "customer"]))
            assert made is not None


def test_a_login_that_is_refused_ends_it_so_that_the_user_is_not_locked(
    on_snowflake: Settings, bucket: Bucket, s3_endpoint: str, fakesnow: int, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    with between(fakesnow) as network:
        platform = through(network, on_snowflake, bucket)
        with at_work(platform, s3_endpoint, said) as worker:
            refused = Fault(LOGIN, answer=("390100", "Incorrect username or password was specified."), times=99)
            network.faults.append(refused)
            platform.put("1.csv", FIRST)
            assert worker.wait(120) == 1, said.read_text()
    assert "user fake was refused" in said.read_text()
    assert refused.met <= 2
