"""Chaos: kill -9 at many moments of a load and of a sync, then one sync more; nothing may differ from a home in peace.

    python -m tests.chaos --rounds 30 [--seed 0]

One line per round, at the end how many agreed; exit 1 on any difference. A round starts from a copy of the same landed
files, kills `c360 sync` (all of it, or only the parent, so that an orphan dbt goes on) or a load, goes on with the same
command, and holds every table against the undisturbed home's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import psutil

from c360_assets import local, staging
from c360_assets.feeds import load_feeds
from c360_assets.settings import PROJECT, Settings
from c360_assets.warehouse import open_warehouse
from tests.parts import digest

FEED = "customers"
C360 = Path(sys.executable).with_name("c360")
PATIENCE = 300.0
SYNC_OBJECTS, LOAD_OBJECTS = 8, 1

# What must be equal however often a load or a sync was cut: everything but the clock and the names of batches.
STAGED = {
    "staging.customers": "select * exclude (_loaded_at, _batch, _superseded_at), _superseded_at is not null",
    "staging.refused_rows": "select * exclude (refused_at, _batch, _superseded_at), _superseded_at is not null",
    "staging.object_ledger": "select * exclude (last_modified, batch, loaded_at)",
}
BUILT = {
    "core.customer": "select *",
    "core.customer_history": "select *",
    "core.customer_ties": "select *",
    "core.v_customer_change_data": "select *",
    "clean.accounting": "select feed, _key, _etag, unit, received, accepted, quarantined, duplicates",
    "clean.quarantine": "select * exclude (refused_at, batch)",
}
UNFINISHED = [s for s in dg.DagsterRunStatus if s.value not in ("SUCCESS", "FAILURE", "CANCELED")]


# --- homes


# Further settings of every command.
SETTINGS: dict[str, str] = {}


def environment(home: Path) -> dict[str, str]:
    """The environment of a command: a home of its own, an embedded S3, nothing of whoever runs this."""
    plain = {n: v for n, v in os.environ.items() if not n.startswith(("C360_", "AWS_", "DAGSTER_", "SNOWFLAKE_"))}
    ours = {"C360_HOME": str(home), "C360_BATCH_OBJECTS": str(SYNC_OBJECTS), "C360_WAIT": "120"}
    return plain | ours | SETTINGS


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [C360, *arguments], env=environment(home), capture_output=True, text=True, timeout=PATIENCE, cwd=home.parent
    )


def landed_home(folder: Path, seed: int = 0) -> Path:
    """A home with generated files on its S3 and nothing loaded yet; rounds start from copies of it."""
    files, home = folder / "files", folder / "landed"
    subprocess.run(
        [sys.executable, "-m", "generator", "customers", "--customers", "120", "--days", "2", "--interval", "7200",
         "--rows-per-file", "60", "--faults", "--seed", str(seed), "--out", str(files)],
        cwd=PROJECT, check=True, capture_output=True,
    )  # fmt: skip
    home.mkdir(parents=True)
    for arguments in (("land", str(files / FEED), "--feed", FEED), ("prepare",)):
        done = command(home, *arguments)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
    return home


def copy_of(home: Path, name: str) -> Path:
    """The note of where the S3 is stays behind: the copy starts its own."""
    return Path(shutil.copytree(home, home.parent / name, ignore=shutil.ignore_patterns("s3.json")))


def rows(home: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the home's warehouse; waits while an orphan dbt holds it."""
    until = time.monotonic() + 60
    while True:
        try:
            with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
                return connection.execute(sql).fetchall()
        except duckdb.IOException:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def state(home: Path, tables: Mapping[str, str]) -> dict[str, str]:
    """{table: number and digest of its rows}."""
    found = {}
    for table, select in tables.items():
        there = rows(home, f"{select} from {table}")
        found[table] = f"{len(there)} rows {digest(there)[:12]}"
    return found


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    return [f"{table}: {found.get(table)}, not {told}" for table, told in expected.items() if found.get(table) != told]


def twice(home: Path) -> list[str]:
    """What stands twice."""
    staged = rows(home, "select _key, _etag, _row from staging.customers group by all having count(*) > 1")
    ledger = rows(home, "select feed, key, etag from staging.object_ledger group by all having count(*) > 1")
    return [f"{row} stands twice" for row in (*staged, *ledger)]


def s3_processes(home: Path) -> list[psutil.Process]:
    """Embedded S3 servers of this home, noted or not."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("S3_DATA_DIR", "").startswith(
                f"{home}/"
            ):
                found.append(process)
    return found


def left_behind(home: Path) -> list[str]:
    """Runs that never ended, slots, spool folders and S3 processes that nobody will ever use."""
    wrong = []
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
            wrong.append(f"run {run.run_id[:8]} of {run.job_name} is {run.status.value}")
        storage = instance.event_log_storage
        for key in storage.get_concurrency_keys():
            info = storage.get_concurrency_info(key)
            if info.claimed_slots or info.pending_steps:
                wrong.append(f"pool {key} has {len(info.claimed_slots)} claimed and {len(info.pending_steps)} pending")
    wrong += [f"spool folder {p.name} is left" for p in (home / "spool").glob("*")]
    wrong += s3_troubles(home)
    return wrong


def s3_troubles(home: Path) -> list[str]:
    """The last command that used the embedded S3 stops it, whoever started it; then nothing is noted either."""
    note = home / "s3.json"
    wrong = [f"s3.json is left: {note.read_text()}"] if note.exists() else []
    return wrong + [f"S3 process {p.pid} is left" for p in s3_processes(home)]


def end_s3(home: Path) -> None:
    for process in s3_processes(home):
        with contextlib.suppress(psutil.Error):
            process.terminate()
            process.wait(10)


# --- moments of a sync


@dataclass(frozen=True)
class Moment:
    """When to kill: after so many seconds, or as soon as `seen` holds; the parent only, or all its processes."""

    name: str
    after: float = 0.0
    seen: Callable[[Path, psutil.Process], bool] | None = None
    orphan: bool = False


def _lock_says(purpose: str) -> Callable[[Path, psutil.Process], bool]:
    def seen(home: Path, process: psutil.Process) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return str(json.loads((home / "warehouse.lock").read_text())["purpose"]).startswith(purpose)
        return False

    return seen


def dbt_of(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [p for p in process.children(recursive=True) if any(Path(a).name == "dbt" for a in p.cmdline())]
    return []


def _dbt_log_says(text: str) -> Callable[[Path, psutil.Process], bool]:
    def seen(home: Path, process: psutil.Process) -> bool:
        return any(text in log.read_text(errors="replace") for log in (home / "dbt").glob("*/runs/*/dbt.log"))

    return seen


def _dagster_runs(home: Path, process: psutil.Process) -> bool:
    return any((home / "dagster" / "history" / "runs").glob("*-*.db")) or any(
        (home / "dagster" / "history").glob("*.db")
    )


EVENTS = [
    Moment("S3 starts", seen=lambda home, process: bool(s3_processes(home))),
    Moment("S3 is noted", seen=lambda home, process: (home / "s3.json").exists()),
    Moment("Dagster has a database", seen=_dagster_runs),
    Moment("the warehouse file is made", seen=lambda home, process: (home / "warehouse.duckdb").exists()),
    Moment("the lock is held for loading", seen=_lock_says("loading")),
    Moment("a spool folder is there", seen=lambda home, process: any(p.is_dir() for p in (home / "spool").glob("*"))),
    Moment("the lock says dbt build", seen=_lock_says("dbt build")),
    Moment("the lock says dbt build", seen=_lock_says("dbt build"), orphan=True),
    Moment("dbt has started", seen=lambda home, process: bool(dbt_of(process)), orphan=True),
    Moment("dbt makes customer_rows", seen=_dbt_log_says("START sql by_batch model clean.customer_rows")),
    Moment("dbt makes customer_log", seen=_dbt_log_says("START sql scd2 model core.customer_log")),
    Moment("dbt makes customer_log", seen=_dbt_log_says("START sql scd2 model core.customer_log"), orphan=True),
    Moment("dbt makes customer", seen=_dbt_log_says("START sql companion model core.customer ")),
    Moment("dbt tests", seen=_dbt_log_says("START test "), orphan=True),
    Moment("dbt is done", seen=_dbt_log_says("Finished running")),
]


@dataclass
class Reference:
    """What an undisturbed sync made, and how long it took."""

    landed: Path
    seconds: float = 0.0
    tables: dict[str, str] = field(default_factory=dict)


def reference_of(landed: Path) -> Reference:
    home = copy_of(landed, "peace")
    before = time.monotonic()
    done = command(home, "sync")
    seconds = time.monotonic() - before
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    wrong = left_behind(home)
    if wrong:
        raise RuntimeError(f"an undisturbed sync leaves something behind: {wrong}")
    return Reference(landed, seconds, state(home, STAGED | BUILT))


def kill(home: Path, moment: Moment, *arguments: str) -> tuple[bool, list[psutil.Process]]:
    """Runs a command until the moment and kills it; was it still there, and which orphans go on."""
    process = subprocess.Popen(
        [C360, *arguments], env=environment(home), cwd=home.parent, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seen = psutil.Process(process.pid)
    if moment.seen is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment.after)
    else:
        until = time.monotonic() + PATIENCE
        while process.poll() is None and not moment.seen(home, seen):
            if time.monotonic() > until:
                os.killpg(process.pid, signal.SIGKILL)
                raise RuntimeError(f"'{moment.name}' was never seen")
            time.sleep(0.005)
    alive = process.poll() is None
    orphans = dbt_of(seen) if alive and moment.orphan else []
    if alive:
        with contextlib.suppress(ProcessLookupError):
            if moment.orphan:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive, orphans


@dataclass(frozen=True)
class Told:
    """How a round ended: what it was, and everything that was wrong."""

    what: str
    wrong: list[str]


def sync_round(reference: Reference, name: str, *moments: Moment) -> Told:
    """Kills a sync at each moment in turn, syncs once more, and compares."""
    home = copy_of(reference.landed, name)
    what = []
    try:
        s3_left, orphans = 0, []
        for moment in moments:
            killed, alone = kill(home, moment, "sync")
            orphans += alone
            s3_left = len(s3_processes(home))
            what.append(
                f"{moment.name}, {'killed' if killed else 'was over'}"
                f"{', parent only' if moment.orphan else ''}{f', {len(alone)} orphan' if alone else ''}"
            )
        done = command(home, "sync")
        wrong = [] if done.returncode == 0 else [f"sync after it ends with {done.returncode}: {done.stderr.strip()}"]
        # What still goes on is waited for: it must change nothing any more.
        for orphan in orphans:
            with contextlib.suppress(psutil.Error):
                orphan.wait(PATIENCE)
        wrong += differences(state(home, STAGED | BUILT), reference.tables)
        wrong += twice(home)
        wrong += left_behind(home)
        what.append(f"{s3_left} S3 left by it, {len(s3_processes(home))} after the next")
    except Exception as error:  # a round that breaks is a difference, and the next ones still run
        wrong = [f"{type(error).__name__}: {error}"]
    finally:
        end_s3(home)
    if not wrong:
        shutil.rmtree(home, ignore_errors=True)
    return Told("; ".join(what), wrong)


# --- a load alone: many small batches, killed in a process of its own


def load(home: Path, started: Path | None = None) -> None:
    """Loads all that is new in batches of one object."""
    settings = Settings.load({"C360_HOME": str(home), "C360_WAIT": "20"})
    feed = load_feeds([settings.dbt_project / "models" / "staging"])[FEED]
    bucket = local.landing_bucket(settings)
    if started:
        started.touch()
    staging.load_new(feed, bucket, open_warehouse(settings), settings.spool, objects=LOAD_OBJECTS, size=1 << 30)


@contextlib.contextmanager
def serving(landed: Path) -> Iterator[None]:
    """The landed home's S3 runs; homes of load rounds borrow it."""
    with local.embedded_s3(Settings.load({"C360_HOME": str(landed)})):
        yield


def load_home(landed: Path, name: str) -> Path:
    """An empty home that reads the S3 of the landed one."""
    home = landed.parent / name
    home.mkdir()
    shutil.copy(landed / "s3.json", home / "s3.json")
    return home


def load_reference(landed: Path) -> Reference:
    home = load_home(landed, "peace-of-loads")
    before = time.monotonic()
    load(home)
    return Reference(landed, time.monotonic() - before, state(home, STAGED))


def torn(home: Path) -> list[str]:
    """What half a batch would look like: rows without a ledger row, or a ledger row without its rows."""
    if not (home / "warehouse.duckdb").exists():
        return []
    tables = rows(home, "select count(*) from information_schema.tables where table_schema = 'staging'")
    if tables[0][0] < 4:
        return []
    return [
        f"half a batch: {row}"
        for row in rows(
            home,
            """
            with staged as (select _key as key, _batch as batch, count(*) as count_rows from staging.customers group by all),
            ledger as (select key, batch, status from staging.object_ledger)
            select * from staged full join ledger using (key, batch) where status is null
            """,
        )
    ]


def load_round(reference: Reference, name: str, after: float) -> Told:
    """Kills a load, looks for half a batch, clears what it left, loads on, and compares."""
    home = load_home(reference.landed, name)
    started = home / "started"
    process = _FORKS.Process(target=load, args=(home, started))
    process.start()
    while not started.exists() and process.is_alive():
        time.sleep(0.001)
    time.sleep(after)
    killed = process.is_alive()
    process.kill()
    process.join()
    wrong = torn(home)
    loaded = _loaded(home)
    settings = Settings.load({"C360_HOME": str(home)})
    (home / "dagster").mkdir()
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        local.reap(instance, settings.spool)
    load(home)
    wrong += differences(state(home, STAGED), reference.tables)
    wrong += twice(home)
    wrong += [f"spool folder {p.name} is left" for p in (home / "spool").glob("*")]
    if not wrong:
        shutil.rmtree(home, ignore_errors=True)
    return Told(
        f"load after {after:.2f} s, {'killed' if killed else 'was over'}, {loaded} objects loaded by then", wrong
    )


def _loaded(home: Path) -> int:
    try:
        return int(rows(home, "select count(*) from staging.object_ledger")[0][0])
    except duckdb.Error:
        return 0


# Children of a clean server that has imported everything: they start at once, and threads of ours are not in them.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["c360_assets.local", "c360_assets.staging", "tests.parts"])


# --- the program


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="of a sync; as many of a load, which are short (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the files and of the moments (0)")
    parser.add_argument("--keep", action="store_true", help="keep the homes of rounds that differ")
    options = parser.parse_args(arguments)
    chosen = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="c360-chaos-"))
    agreed, total = 0, 0
    try:
        landed = landed_home(folder, options.seed)
        with serving(landed):
            reference = load_reference(landed)
            print(f"a load takes {reference.seconds:.1f} s in peace", flush=True)
            for number in range(options.rounds):
                after = reference.seconds * number / max(1, options.rounds - 1)
                agreed += _told(total := total + 1, load_round(reference, f"load-{number}", after))
        reference = reference_of(landed)
        print(f"a sync takes {reference.seconds:.1f} s in peace", flush=True)
        for number in range(options.rounds):
            moments = [_moment(chosen, number, options.rounds, reference.seconds)]
            while chosen.random() < 0.3:  # some are killed again on their way back
                moments.append(_moment(chosen, chosen.randrange(options.rounds), options.rounds, reference.seconds))
            agreed += _told(total := total + 1, sync_round(reference, f"sync-{number}", *moments))
    finally:
        if not options.keep or agreed == total:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{agreed} of {total} rounds agreed" + ("" if agreed == total or not options.keep else f"; see {folder}"))
    return 0 if agreed == total else 1


def _moment(chosen: random.Random, number: int, rounds: int, seconds: float) -> Moment:
    """Every second one is tied to an event, in turn; the others are spread over the time that a sync takes."""
    if number % 2:
        return EVENTS[(number // 2) % len(EVENTS)]
    after = seconds * (number + chosen.random()) / rounds
    return Moment(f"after {after:.1f} s", after=after, orphan=chosen.random() < 0.4)


def _told(number: int, told: Told) -> bool:
    print(f"{number:3} {'agrees' if not told.wrong else 'DIFFERS'}  {told.what}", flush=True)
    for line in told.wrong:
        print(f"      {line}", flush=True)
    return not told.wrong


if __name__ == "__main__":
    raise SystemExit(main())
