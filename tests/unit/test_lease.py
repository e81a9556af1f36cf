"""The lease of the worker, and what is kept of its runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from c360_assets import lease
from c360_assets.retention import BY_WORKER, prune


def test_one_worker_at_a_time_and_none_once_it_is_gone(tmp_path: Path) -> None:
    assert lease.holder(tmp_path) is None
    with lease.taken(tmp_path):
        assert lease.holder(tmp_path) == f"process {os.getpid()}"
        with pytest.raises(lease.LeaseTaken, match=f"process {os.getpid()}"), lease.taken(tmp_path):
            pass
    assert lease.holder(tmp_path) is None
    with lease.taken(tmp_path):
        pass


def test_a_worker_that_was_killed_or_is_silent_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"from c360_assets import lease; from pathlib import Path; import time\nwith lease.taken(Path({str(tmp_path)!r})):\n print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"1\n"
    assert lease.holder(tmp_path) == f"process {process.pid}"
    now = time.time()
    monkeypatch.setattr(lease.time, "time", lambda: now + lease.SILENCE + 1)
    assert lease.holder(tmp_path) is None
    monkeypatch.undo()
    process.kill()
    process.wait()
    assert lease.holder(tmp_path) is None
    with lease.taken(tmp_path):
        assert lease.holder(tmp_path) == f"process {os.getpid()}"


def test_old_runs_go_with_what_they_wrote_and_assets_stay_known(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @dg.asset
    def thing() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"rows": 3})

    mine = dg.materialize([thing], instance=instance, tags=BY_WORKER).run_id
    other = dg.materialize([thing], instance=instance).run_id
    logs = tmp_path / "storage" / mine
    logs.mkdir(parents=True)
    now = datetime.now(UTC)
    assert prune(instance, tmp_path, now=now + timedelta(hours=23)) == 0
    assert prune(instance, tmp_path, now=now + timedelta(hours=25)) == 1
    assert not logs.exists() and {run.run_id for run in instance.get_runs()} == {other}
    assert prune(instance, tmp_path, now=now + timedelta(days=31)) == 1
    assert instance.get_runs() == []
    made = instance.get_latest_materialization_event(dg.AssetKey("thing"))
    assert made is not None
