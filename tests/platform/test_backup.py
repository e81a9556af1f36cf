"""A home that is backed up while it works, and one that is made of the backup: with the real commands, S3 and Dagster."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from tests import chaos
from tests.parts import minutes_long, without_shop

HEAD = "customer_id,first_name,email,city,updated_at"


@pytest.fixture(autouse=True)
def small_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(chaos.SETTINGS, "C360_DBT_PROJECT", str(without_shop()))


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Path]:
    """The folder of the test's homes; their S3s end with it."""
    yield tmp_path
    for home in tmp_path.iterdir():
        chaos.end_s3(home)


def done(home: Path, *arguments: str) -> str:
    told = chaos.command(home, *arguments)
    assert told.returncode == 0, (arguments, told.stdout, told.stderr)
    return told.stdout


def refused(home: Path, *arguments: str) -> str:
    told = chaos.command(home, *arguments)
    assert told.returncode == 1 and "Traceback" not in told.stderr, (told.returncode, told.stderr)
    return told.stderr


def landed(home: Path, *customers: int, day: int = 1) -> None:
    file = home.parent / f"customer_202601{day:02}000000.csv"
    rows = [f"CUST-{n},Ann,ann{n}@example.org,Town{n}-{day},2026-01-{day:02}T00:00:00Z" for n in customers]
    file.write_text("\n".join([HEAD, *rows, ""]))
    done(home, "land", str(file), "--feed", "customers")
    file.unlink()


@minutes_long
def test_a_home_that_is_at_work_is_backed_up_and_goes_on_elsewhere(homes: Path) -> None:
    """While objects land and are loaded and built, again and again, it is copied; what was new since is landed again."""
    first, second = homes / "first", homes / "second"
    landed(first, 1, 2, 3)
    done(first, "sync")
    # Whoever uses S3 all the time: land and sync, one object after another.
    script = (
        "import subprocess, sys, pathlib\n"
        "for day in range(2, 28):\n"
        "    file = pathlib.Path(sys.argv[2]) / f'customer_202601{day:02}000000.csv'\n"
        f"    file.write_text('{HEAD}\\n' + ''.join(f'CUST-{{n}},Ann,a@x.org,T{{day}},2026-01-{{day:02}}T00:00:00Z\\n' for n in range(200)))\n"
        "    subprocess.run([sys.argv[1], 'land', str(file), '--feed', 'customers'], check=True)\n"
        "    if day % 4 == 0: subprocess.run([sys.argv[1], 'sync'], check=True)\n"
    )
    files = homes / "files"
    files.mkdir()
    busy = subprocess.Popen(
        [sys.executable, "-c", script, chaos.C360, files], env=chaos.environment(first), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(6)
        backups = [homes / "backups" / str(n) for n in range(3)]
        for each in backups:
            told = done(first, "backup", "--to", str(each))
            assert str(each) in told and "files" in told
            assert busy.poll() is None
            time.sleep(2)
    finally:
        busy.wait(300)
    assert busy.returncode == 0
    done(first, "sync")
    expected = chaos.state(first, chaos.STAGED | chaos.BUILT)
    counts = []
    for each in backups:
        shutil.rmtree(second, ignore_errors=True)
        assert "c360 sync goes on" in done(second, "restore", "--from", str(each))
        assert chaos.twice(second) == []
        counts.append(len(chaos.rows(second, "select * from staging.object_ledger")))
        # Every object that the ledger has is on S3 too, as it was: nothing is loaded a second time.
        waits = json.loads(done(second, "status", "--format", "json"))
        (feed,) = (f for f in waits["feeds"] if f["feed"] == "customers")
        assert feed["objects"] == counts[-1]
        on_s3 = len(list((second / "s3" / "objects").rglob("customer_*.csv")))
        assert feed["waiting"] == on_s3 - counts[-1]
        with dg.DagsterInstance.from_config(str(second / "dagster")) as instance:
            assert instance.get_runs_count() > 0
    done(second, "land", str(files), "--feed", "customers")
    done(second, "sync")
    assert chaos.state(second, chaos.STAGED | chaos.BUILT) == expected
    assert chaos.left_behind(second) == []


@minutes_long
def test_a_backup_that_is_killed_leaves_none_and_the_next_is_whole(homes: Path) -> None:
    home = homes / "home"
    landed(home, *range(20_000))
    luck = random.Random(4)
    for _ in range(4):
        process = subprocess.Popen(
            [chaos.C360, "backup", "--to", str(homes / "b")], env=chaos.environment(home), stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 30
        while not (homes / "b.unfinished").exists() and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(luck.random() * 0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (homes / "b").exists():
            shutil.rmtree(homes / "b")
    done(home, "backup", "--to", str(homes / "b"))
    assert not (homes / "b.unfinished").exists()
    done(homes / "other", "restore", "--from", str(homes / "b"))
    done(homes / "other", "sync")
    assert chaos.rows(homes / "other", "select count(*) from core.customer") == [(20_000,)]


@minutes_long
def test_what_is_not_as_it_was_written_is_not_restored_and_nothing_is_touched(homes: Path) -> None:
    home, backup = homes / "home", homes / "b"
    landed(home, 1, 2)
    done(home, "sync")
    done(home, "backup", "--to", str(backup))
    assert "is there already" in refused(home, "backup", "--to", str(backup))
    before = chaos.state(home, chaos.STAGED)
    warehouse = backup / "warehouse.duckdb"
    whole = warehouse.read_bytes()
    warehouse.write_bytes(whole[:5000] + b"\x00\x01" + whole[5002:])
    assert "file warehouse.duckdb is not as it was written" in refused(
        home, "restore", "--from", str(backup), "--replace"
    )
    warehouse.unlink()
    assert "file warehouse.duckdb is gone" in refused(home, "restore", "--from", str(backup), "--replace")
    warehouse.write_bytes(whole)
    (backup / "extra").touch()
    assert "file extra is not of this backup" in refused(home, "restore", "--from", str(backup), "--replace")
    (backup / "extra").unlink()
    assert "is no backup" in refused(home, "restore", "--from", str(homes))
    assert "say --replace" in refused(home, "restore", "--from", str(backup))
    assert chaos.state(home, chaos.STAGED) == before
    # Somebody is at work in it.
    watching = subprocess.Popen(
        [chaos.C360, "land", "--watch", str(homes), "--feed", "customers"], env=chaos.environment(home),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stderr is not None and "watching" in watching.stderr.readline()
    assert "something is at work" in refused(home, "restore", "--from", str(backup), "--replace")
    watching.send_signal(signal.SIGTERM)
    watching.wait(30)
    told = chaos.command(home, "restore", "--from", str(backup), "--replace")
    assert told.returncode == 0 and "what was there is in" in told.stderr
    assert chaos.state(home, chaos.STAGED) == before
    (aside,) = homes.glob("home.before-*")
    assert (aside / "warehouse.duckdb").exists()


@minutes_long
def test_who_was_forgotten_since_the_backup_stays_forgotten(homes: Path) -> None:
    home, backup = homes / "home", homes / "b"
    landed(home, 7, 70, 8)
    landed(home, 7, 8, day=3)
    done(home, "sync")
    done(home, "backup", "--to", str(backup))
    done(home, "forget", "CUST-7", "--reason", "asked by letter 12", "--yes")
    expected = chaos.rows(home, "select * from core.customer order by customer_id")
    done(home, "restore", "--from", str(backup), "--replace")
    assert chaos.rows(home, "select * from core.customer order by customer_id") == expected
    assert [row[0] for row in chaos.rows(home, "select customer_id from core.customer order by 1")] == [
        "CUST-70",
        "CUST-8",
    ]
    files = [path for path in home.rglob("*") if path.is_file()]
    found = [p for p in files if any(mark in p.read_bytes() for mark in (b"CUST-7,", b"CUST-7'", b'CUST-7"', b"ann7@"))]
    assert found == []
    assert len(list((home / "forgotten").glob("*.json"))) == 1
    # Who sends them again does not bring them back.
    landed(home, 7, 9, day=5)
    done(home, "sync")
    assert "CUST-7" not in {row[0] for row in chaos.rows(home, "select customer_id from core.customer")}
    assert psutil.Process().children() == [] or chaos.s3_troubles(home) == []
