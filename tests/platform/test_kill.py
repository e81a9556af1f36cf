"""kill -9 at any moment of a load or a sync: the next one finishes the work, and nothing shows that anything happened.

The moments and comparisons are those of `python -m tests.chaos`, which goes through many more of them. `make chaos` runs
both, and of these tests also those that take minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests import chaos
from tests.chaos import EVENTS, Moment, Reference
from tests.parts import minutes_long, without_shop

LOADS = 6


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chaos.SETTINGS["C360_DBT_PROJECT"] = str(without_shop())
    return chaos.landed_home(tmp_path_factory.mktemp("kill"))


# --- a load


@pytest.fixture(scope="module")
def loads(landed: Path) -> Iterator[Reference]:
    with chaos.serving(landed):
        yield chaos.load_reference(landed)


@minutes_long
def test_a_load_killed_at_many_moments_leaves_whole_batches_and_the_next_makes_it_good(loads: Reference) -> None:
    told = [
        chaos.load_round(loads, f"load-{number}", loads.seconds * (number + 0.5) / LOADS) for number in range(LOADS)
    ]
    assert [t for t in told if t.wrong] == []
    # Else the moments are none: some of the loads must have been cut in their middle.
    cut = [t for t in told if "killed" in t.what and " 0 objects" not in t.what]
    assert len(cut) >= 3, [t.what for t in told]


@minutes_long
def test_half_a_batch_would_be_seen(loads: Reference, tmp_path: Path) -> None:
    """The comparison itself: a row without its object's ledger row, a row too many, a folder left."""
    home = chaos.load_home(loads.landed, "torn")
    chaos.load(home)
    assert (
        chaos.torn(home) == chaos.twice(home) == chaos.differences(chaos.state(home, chaos.STAGED), loads.tables) == []
    )
    with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
        connection.execute("delete from staging.object_ledger where key = (select min(_key) from staging.customers)")
        connection.execute("insert into staging.customers select * from staging.customers limit 1")
    assert len(chaos.torn(home)) == 1
    assert len(chaos.twice(home)) == 1
    assert len(chaos.differences(chaos.state(home, chaos.STAGED), loads.tables)) == 2


# --- a sync


@pytest.fixture(scope="module")
def syncs(landed: Path) -> Reference:
    return chaos.reference_of(landed)


def moment(name: str, *, orphan: bool = False) -> Moment:
    (found,) = [m for m in EVENTS if m.name == name and m.orphan == orphan]
    return found


@minutes_long
def test_an_orphan_dbt_beside_the_next_sync_changes_nothing(syncs: Reference) -> None:
    """Only the parent is killed; its dbt goes on and holds the warehouse for a while."""
    told = chaos.sync_round(syncs, "orphan", moment("dbt makes customer_log", orphan=True))
    assert "killed" in told.what and "1 orphan" in told.what, told
    assert told.wrong == []


@minutes_long
def test_a_sync_killed_again_and_again_is_finished_by_the_one_that_is_left_alone(syncs: Reference) -> None:
    """In its load, then at the start of dbt, then in the middle of the history's transaction."""
    told = chaos.sync_round(
        syncs,
        "thrice",
        moment("a spool folder is there"),
        moment("the lock says dbt build"),
        moment("dbt makes customer_log"),
    )
    assert told.what.count("killed") == 3, told
    assert told.wrong == []


# --- the embedded S3 of a killed command


def land(home: Path, seen: Moment | None = None) -> None:
    """Lands a file; or begins to, and is killed at the moment."""
    file = home.parent / "one.csv"
    file.write_text("customer_id\n1\n")
    if seen is None:
        done = chaos.command(home, "land", str(file), "--feed", "customers")
        assert done.returncode == 0, done.stderr
    else:
        killed, _ = chaos.kill(home, seen, "land", str(file), "--feed", "customers")
        assert killed


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    chaos.end_s3(home)


def test_the_s3_of_a_killed_command_is_used_by_the_next_and_stopped_by_the_last(home: Path) -> None:
    for _ in range(2):
        land(home, Moment("S3 is noted", seen=lambda home, process: (home / "s3.json").exists()))
        assert len(chaos.s3_processes(home)) == 1
    land(home)
    assert chaos.s3_troubles(home) == []


@minutes_long
def test_no_s3_is_left_of_commands_that_were_killed_before_they_could_note_it(home: Path) -> None:
    for _ in range(2):
        before = {p.pid for p in chaos.s3_processes(home)}
        land(
            home,
            Moment(
                "S3 starts", seen=lambda home, process, b=before: bool({p.pid for p in chaos.s3_processes(home)} - b)
            ),
        )
        assert not (home / "s3.json").exists()
    land(home)
    assert chaos.s3_troubles(home) == []
