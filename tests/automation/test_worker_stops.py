"""Who asks the worker to end, with a signal, in the middle of a run of Dagster: the run is finished, and the worker ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg

from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from tests.parts import Platform, command_environment, minutes_long, on_duckdb, read_already

pytestmark = on_duckdb
ROWS = b"customer_id,first_name,city,updated_at,op\n1,Ada,Rome,2024-01-01,I\n"


@minutes_long
def test_a_run_is_finished_before_the_worker_ends(settings: Settings, bucket: Bucket, s3_endpoint: str) -> None:
    platform = Platform(settings, bucket).begin()
    read_already(settings)
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    environment = command_environment(settings.home, bucket, s3_endpoint) | {"C360_DBT_PROJECT": str(platform.project)}
    with (settings.home / "said").open("wb") as heard:
        worker = subprocess.Popen(
            [Path(sys.executable).with_name("c360"), "worker"], env=environment, stdout=heard, stderr=heard
        )
    try:
        until = time.monotonic() + 240
        while "at work" not in (settings.home / "said").read_text():
            assert time.monotonic() < until and worker.poll() is None
            time.sleep(0.1)
        platform.put("a.csv", ROWS)
        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            going = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
            while not (runs := instance.get_runs(going)):
                assert time.monotonic() < until and worker.poll() is None
                time.sleep(0.02)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(120) == 0, (settings.home / "said").read_text()
            assert all(
                instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]
                for run in runs
            )
    finally:
        worker.kill()
        worker.wait()
