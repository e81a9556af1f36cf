"""Dagster's SQLite files, while somebody writes to them all the time."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from c360_assets import event_log


def test_the_files_stay_open_while_runs_follow_one_another_and_nothing_is_left_of_it(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @dg.asset
    def thing() -> None: ...

    history = tmp_path / "dagster" / "history"
    logs = [history / "runs.db-wal", history / "runs" / "index.db-wal"]
    dg.materialize([thing], instance=instance)
    assert not any(log.exists() for log in logs)
    with event_log.kept_open():
        runs = [dg.materialize([thing], instance=instance).run_id for _ in range(3)]
        assert all(log.exists() for log in logs)
    assert not list(history.rglob("*-wal"))
    assert {run.run_id for run in instance.get_runs()} >= set(runs)
    assert instance.get_latest_materialization_event(dg.AssetKey("thing")) is not None
