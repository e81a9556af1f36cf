"""The parts that tests stand on, all of them real: an S3 server, DuckDB files, Dagster instances on disk, dbt, fakesnow."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import dagster as dg
import pytest

from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from tests.emulator import fakesnow_server, on_fakesnow
from tests.parts import Platform, free_port, settings_at, without_shop

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _without_flags() -> None:
    """What chooses tests has chosen them; the platform's commands refuse a setting that they do not know."""
    for name in ("C360_PROOF", "C360_CHAOS", "C360_ERASURE"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and other systems' cases, beside the checkout."""
    if not SHARED.exists():
        pytest.skip(f"no {SHARED}: real data and referee cases are not here")
    return SHARED


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server in memory, one for the whole session."""
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ministack")],
        env={"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING", "SERVICES": "s3,sqs,kinesis"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=1)
            break
        except OSError:
            time.sleep(0.05)
    else:
        raise RuntimeError("ministack did not start")
    yield endpoint
    process.terminate()
    process.wait(10)


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    """A bucket of the test's own."""
    return _new_bucket(s3_endpoint)


@pytest.fixture(scope="module")
def bucket_of_module(s3_endpoint: str) -> Bucket:
    """A bucket that the tests of a module share."""
    return _new_bucket(s3_endpoint)


def _new_bucket(s3_endpoint: str) -> Bucket:
    client = boto3.client(
        "s3", endpoint_url=s3_endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
    )
    made = Bucket(client, f"t-{uuid.uuid4().hex[:12]}", "stream_data")
    made.ensure()
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an empty home, and of a project without the shop."""
    return settings_at(tmp_path / "home", C360_WAIT="20", C360_DBT_PROJECT=str(without_shop()))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk."""
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home)) as made:
        yield made


@pytest.fixture
def platform(settings: Settings, bucket: Bucket) -> Platform:
    """The whole pipe: S3, staging, and dbt in this process, which is warm after the first test."""
    return Platform(settings, bucket).begin()


@pytest.fixture(scope="module")
def fakesnow() -> Iterator[int]:
    """A fakesnow server, one per module."""
    with fakesnow_server() as port:
        yield port


@pytest.fixture
def on_snowflake(fakesnow: int, tmp_path: Path) -> Settings:
    """Settings of a database of the test's own."""
    return Settings.load({"C360_HOME": str(tmp_path / "snow")} | on_fakesnow(fakesnow))
