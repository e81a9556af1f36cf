"""The lease of the worker, and what is kept of its runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest

from c360_assets import lease, retention
from c360_assets.processes import born, is_alive
from c360_assets.retention import BY_WORKER, prune, prune_evaluations
from c360_assets.spool import clear_spool, spool_folder


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


def test_a_worker_that_has_much_to_load_at_first_is_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SILENCE", 0.5)
    with lease.taken(tmp_path):
        with lease.beating(tmp_path):
            time.sleep(0.7)
            assert lease.holder(tmp_path) is not None
        time.sleep(0.7)
        assert lease.holder(tmp_path) is None


def test_old_runs_go_with_what_they_wrote_and_assets_stay_known(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @dg.asset
    def thing() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"rows": 3})

    mine = dg.materialize([thing], instance=instance, tags=BY_WORKER).run_id
    other = dg.materialize([thing], instance=instance).run_id
    home = tmp_path / "dagster"
    logs = home / "storage" / mine
    assert logs.exists() and size_of(home, mine) > 50_000
    now = datetime.now(UTC)
    assert prune(instance, home, now=now + timedelta(hours=23)) == 0
    assert prune(instance, home, now=now + timedelta(hours=25)) == 1
    assert not logs.exists() and size_of(home, mine) == 0 < size_of(home, other)
    assert {run.run_id for run in instance.get_runs()} == {other}
    assert prune(instance, home, now=now + timedelta(days=31)) == 1
    assert instance.get_runs() == []
    made = instance.get_latest_materialization_event(dg.AssetKey("thing"))
    assert made is not None


def size_of(home: Path, run_id: str) -> int:
    """Bytes of all files that are a run's own."""
    return sum(path.stat().st_size for path in (home / "history" / "runs").glob(f"{run_id}*"))


def test_of_a_check_its_last_evaluations_are_kept_when_their_runs_are_gone(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset
    def thing() -> None: ...

    @dg.asset_check(asset=thing)
    def sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=len(instance.get_runs()) < 3)

    home = tmp_path / "dagster"
    for _ in range(3):
        dg.materialize([thing, sound], instance=instance, tags=BY_WORKER)
    monkeypatch.setattr(retention, "EVALUATIONS", 2)
    now = datetime.now(UTC)
    assert prune(instance, home, now=now + timedelta(hours=25)) == 3
    assert prune_evaluations(instance, now=now) == 0
    assert prune_evaluations(instance, now=now + timedelta(hours=25)) == 1
    key = dg.AssetCheckKey(dg.AssetKey("thing"), "sound")
    told = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert [record.status.value for record in told] == ["FAILED", "SUCCEEDED"]


def test_a_process_is_told_from_others_of_its_pid_and_no_clock_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["sleep", "60"])
    birth = born(process.pid)
    # A clock that is set moves what the system reckons from it.
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 1.0)
    assert is_alive(process.pid, birth) and not is_alive(process.pid, "another")
    assert born(os.getpid()) != birth != ""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has waited for it
    assert not is_alive(process.pid, birth)
    process.wait()
    assert born(process.pid) == "" and not is_alive(process.pid, "")


def test_what_is_spooled_stays_while_its_process_lives_whatever_its_number(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from c360_assets.spool import spool_folder\n"
        "with spool_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'rows.parquet').touch(); print(folder, flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    folder = Path(process.stdout.readline().strip())
    with spool_folder(tmp_path) as ours:
        clear_spool(tmp_path)
        assert ours.is_dir() and (folder / "rows.parquet").exists()
    process.kill()
    process.wait()
    # As a process of before left it, whose number somebody has now.
    (tmp_path / f"{os.getpid()}-abc").mkdir()
    clear_spool(tmp_path)
    assert list(tmp_path.iterdir()) == []
