"""The warehouse on DuckDB: one writer at a time, across processes, for a bounded time; all of a transaction or nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from c360_assets import registers
from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.keeping import KEPT_ANYWAY, MERGE, UNUSED, Keeping
from c360_assets.settings import PROJECT, Settings
from c360_assets.snowflake.warehouse import SnowflakeWarehouse
from c360_assets.warehouse import (
    INTEGER,
    TEXT,
    TIMESTAMP,
    NoWarehouse,
    Session,
    WarehouseBusy,
    may_pass,
    open_warehouse,
)

HOLD = """
import sys, time
from pathlib import Path
from c360_assets.duckdb_warehouse import DuckDBWarehouse

warehouse = DuckDBWarehouse(Path(sys.argv[1]))
with getattr(warehouse, sys.argv[2])(*sys.argv[3:]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(path: Path, how: str, *purpose: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the warehouse until its stdin is closed, or it is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path, how, *purpose],
        cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.wait()
        for pipe in (holder.stdin, holder.stdout):
            assert pipe
            pipe.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "warehouse.duckdb"
    with DuckDBWarehouse(path).writing("test") as session:
        session.execute("create table t as select 1 as n")
    return path


def numbers(warehouse: DuckDBWarehouse) -> list[int]:
    with warehouse.reading() as session:
        return [n for (n,) in session.rows("select n from t order by 1")]


def test_a_second_process_waits_says_so_once_and_goes_on_when_the_first_is_done(path: Path) -> None:
    said: list[str] = []
    with another_process(path, "writing", "loading customers") as holder:
        threading.Timer(0.5, lambda: holder.stdin and holder.stdin.close()).start()
        began = time.monotonic()
        with DuckDBWarehouse(path, 20, said.append).writing("test") as session:
            waited = time.monotonic() - began
            session.execute("insert into t values (2)")
    assert 0.3 < waited < 15
    assert said == [f"waiting for the warehouse, held by process {holder.pid} (loading customers)"]
    assert numbers(DuckDBWarehouse(path)) == [1, 2]


@pytest.mark.parametrize("how", ["reading", "writing"])
def test_a_connection_that_is_kept_is_let_go_for_whoever_waits_and_kept_again(path: Path, how: str) -> None:
    warehouse = DuckDBWarehouse(path, 20)
    keeping = Keeping(warehouse)
    keeping.look(is_due=True)
    with warehouse.writing("test") as session:
        session.execute("insert into t values (2)")
    keeping.look(is_due=True)
    assert not warehouse.is_wanted()
    script = HOLD.replace("sys.stdin.read()", "time.sleep(0.1)")
    arguments = ["test"] if how == "writing" else []
    other = subprocess.Popen(
        [sys.executable, "-c", script, path, how, *arguments], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 30
        while not warehouse.is_wanted():
            assert time.monotonic() < until and other.poll() is None
            time.sleep(0.02)
        keeping.look(is_due=True)
        assert other.communicate(timeout=30)[0] == "held\n" and other.returncode == 0
    finally:
        other.kill()
    assert not warehouse.is_wanted()
    assert numbers(warehouse) == [1, 2]
    keeping.let_go()
    with another_process(path, "reading"):
        assert numbers(DuckDBWarehouse(path, 1)) == [1, 2]


def test_a_connection_is_not_kept_for_ever_and_not_unused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("c360_assets.keeping.time.monotonic", lambda: now[0])
    warehouse = DuckDBWarehouse(path, 20)

    def is_kept() -> bool:
        return warehouse._kept.connection is not None

    with Keeping(warehouse) as keeping:
        keeping.look(is_due=False)
        assert not is_kept()
        keeping.look(is_due=True)
        now[0] += UNUSED
        keeping.look(is_due=False)
        assert is_kept()
        now[0] += 0.1
        keeping.look(is_due=False)
        assert not is_kept()
        connections: list[object] = []
        for _ in range(int(2 * KEPT_ANYWAY)):
            now[0] += 1.0
            keeping.look(is_due=True)
            assert is_kept()
            if warehouse._kept.connection not in connections:
                connections.append(warehouse._kept.connection)
        assert len(connections) == 2
    assert not is_kept()


def test_what_comes_in_small_parts_is_put_together_now_and_then_and_not_at_each_closing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("c360_assets.keeping.time.monotonic", lambda: now[0])
    warehouse = DuckDBWarehouse(path, 20)
    keeping = Keeping(warehouse)

    def parts_after(seconds: float, *, is_due: bool) -> int:
        keeping.look(is_due=True)
        with warehouse.writing("test") as session:
            session.execute("insert into t select 7 from range(3000)")
        now[0] += seconds
        keeping.look(is_due=is_due)
        keeping.let_go()
        with warehouse.reading() as session:
            ((count,),) = session.rows("select count(distinct row_group_id) from pragma_storage_info('t')")
        return int(count)

    before = parts_after(KEPT_ANYWAY, is_due=True)
    assert [parts_after(21, is_due=True) for _ in range(10)] == [before + n for n in range(1, 11)]
    assert [parts_after(1.1, is_due=False) for _ in range(2)] == [1, 2]  # now nothing is due
    assert [parts_after(MERGE, is_due=True) for _ in range(7)] == list(range(3, 10))
    assert parts_after(MERGE, is_due=True) <= 2
    assert len(numbers(warehouse)) == 1 + 21 * 3000


@pytest.mark.parametrize("how", ["writing", "held"])
def test_the_wait_is_bounded_and_its_end_names_the_holder_and_the_remedy(path: Path, how: str) -> None:
    with another_process(path, how, "loading customers") as holder:
        for ask in ("writing", "held", "reading"):
            warehouse = DuckDBWarehouse(path, 0.3)
            began = time.monotonic()
            with pytest.raises(WarehouseBusy) as busy, getattr(warehouse, ask)(*["test"] * (ask != "reading")):
                pass
            assert 0.3 <= time.monotonic() - began < 5
            assert f"process {holder.pid} (loading customers)" in str(busy.value)
            assert str(path) in str(busy.value)
            assert "C360_WAIT" in str(busy.value)
            assert may_pass(busy.value)


def test_a_reader_may_be_told_to_wait_less_than_the_others(path: Path) -> None:
    with another_process(path, "writing", "loading"):
        began = time.monotonic()
        with pytest.raises(WarehouseBusy), DuckDBWarehouse(path, 30).reading(0.2):
            pass
        assert time.monotonic() - began < 5


def test_a_process_that_is_killed_holds_nothing(path: Path) -> None:
    with another_process(path, "writing", "loading") as holder:
        holder.kill()
        holder.wait()
        with DuckDBWarehouse(path, 5).writing("test") as session:
            session.execute("insert into t values (2)")
    assert numbers(DuckDBWarehouse(path)) == [1, 2]


def test_readers_go_side_by_side_and_keep_a_writer_waiting(path: Path) -> None:
    with another_process(path, "reading"):
        said: list[str] = []
        assert numbers(DuckDBWarehouse(path, 0.3, said.append)) == [1]
        assert said == []
        with pytest.raises(WarehouseBusy), DuckDBWarehouse(path, 0.3).writing("test"):
            pass


def test_who_waits_for_a_reader_is_not_told_of_a_writer_that_is_long_gone(path: Path) -> None:
    with another_process(path, "writing", "long ago") as gone:
        pass
    with (
        another_process(path, "reading"),
        pytest.raises(WarehouseBusy) as busy,
        DuckDBWarehouse(path, 0.2).writing("test"),
    ):
        pass
    assert f"process {gone.pid} " not in str(busy.value)
    assert "long ago" not in str(busy.value)


def test_a_reader_cannot_write(path: Path) -> None:
    with DuckDBWarehouse(path).reading() as session, pytest.raises(Exception, match="read-only"):
        session.execute("insert into t values (2)")


def test_reading_what_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoWarehouse, match="c360 sync"), DuckDBWarehouse(tmp_path / "warehouse.duckdb").reading():
        pass
    assert not list(tmp_path.iterdir())


class Broken(Exception):
    pass


def test_a_body_that_raises_rolls_back_and_lets_go_of_the_lock(path: Path) -> None:
    warehouse = DuckDBWarehouse(path, 2)
    with pytest.raises(Broken), warehouse.writing("test") as session, session.transaction():
        session.execute("insert into t values (2)")
        session.execute("create table u as select 1 as n")
        raise Broken
    assert numbers(warehouse) == [1]
    with warehouse.held("test"), pytest.raises(Broken):
        raise Broken
    with warehouse.writing("test") as session:
        assert session.rows("select count(*) from duckdb_tables() where table_name = 'u'") == [(0,)]
        with pytest.raises(Broken), session.transaction():
            session.execute("insert into t values (2)")
            raise Broken
        # The session itself lives on.
        with session.transaction():
            session.execute("insert into t values (3)")
    with another_process(path, "writing", "test"):
        pass
    assert numbers(warehouse) == [1, 3]


def test_what_a_process_killed_in_a_transaction_wrote_is_not_there(path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from c360_assets.duckdb_warehouse import DuckDBWarehouse

with DuckDBWarehouse(Path(sys.argv[1])).writing("dying") as session:
    session.execute("insert into t values (2)")
    with session.transaction():
        session.execute("insert into t select range + 3 from range(100000)")
        os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script, path], cwd=PROJECT).returncode == -9
    assert numbers(DuckDBWarehouse(path, 5)) == [1, 2]


def test_a_table_is_made_once_and_widened_to_what_is_declared(path: Path) -> None:
    warehouse = DuckDBWarehouse(path)
    with warehouse.writing("test") as session:
        session.ensure("staging.x", {"a": TEXT})
        session.execute("insert into staging.x values ('1')")
        session.ensure("staging.x", {"a": TEXT, "_n": INTEGER, "_at": TIMESTAMP})
        session.ensure("staging.x", {"a": TEXT})
        names, rows = session.result("select * from staging.x")
        assert (names, list(rows)) == (["a", "_n", "_at"], [("1", None, None)])


def test_files_are_loaded_by_column_name_whatever_their_path(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "it's a file.parquet"
    with DuckDBWarehouse(path).writing("test") as session:
        session.execute(f"copy (select 'y' as b, 'x' as a) to '{str(file).replace(chr(39), chr(39) * 2)}'")
        session.ensure("staging.x", {"a": TEXT, "b": TEXT, "c": TEXT})
        session.load("staging.x", ["a", "b"], session.put([file]))
        assert session.rows("select * from staging.x") == [("x", "y", None)]


def test_times_are_utc_whatever_the_machine_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        with DuckDBWarehouse(path).reading() as session:
            assert session.rows("select current_setting('TimeZone')") == [("UTC",)]
    finally:
        monkeypatch.undo()
        time.tzset()


# --- names of batches


@pytest.fixture
def session(path: Path) -> Iterator[Session]:
    with DuckDBWarehouse(path).writing("test") as session:
        registers.prepare_tables(session, [])
        yield session


def note(session: Session, batch: str, table: str = "object_ledger") -> None:
    session.execute(f"insert into staging.{table} (batch) values (?)", [batch])


def test_a_batch_is_named_by_its_instant(session: Session) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    name, at = registers.next_batch(session)
    assert before <= at <= datetime.now(UTC).replace(tzinfo=None)
    assert name.startswith(at.strftime("%Y%m%dT%H%M%S.%f"))


@pytest.mark.parametrize("table", ["object_ledger", "quarantine_decisions"])
def test_a_batch_sorts_after_every_other_also_where_the_clock_was_set_back(session: Session, table: str) -> None:
    # As of a clock that was a day ahead.
    ahead = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    note(session, f"{ahead:%Y%m%dT%H%M%S.%f}-ffff", table)
    names = [f"{ahead:%Y%m%dT%H%M%S.%f}-ffff"]
    for number in range(20):
        name, at = registers.next_batch(session)
        note(session, name, ("object_ledger", "quarantine_decisions")[number % 2])
        assert at > ahead
        names.append(name)
    assert names == sorted(set(names))


def test_a_batch_sorts_after_one_that_was_named_at_the_last_microsecond_of_a_year(session: Session) -> None:
    note(session, "20991231T235959.999999-ffff")
    name, at = registers.next_batch(session)
    assert name > "20991231T235959.999999-ffff"
    assert at == datetime(2100, 1, 1)


def test_a_batch_is_no_longer_the_newest_once_another_came(session: Session) -> None:
    name, _ = registers.next_batch(session)
    assert registers.is_newest(session, name)
    note(session, registers.next_batch(session)[0], "quarantine_decisions")
    assert not registers.is_newest(session, name)


def test_the_settings_choose_the_warehouse(tmp_path: Path) -> None:
    opened = open_warehouse(Settings.load({"C360_HOME": str(tmp_path), "C360_WAIT": "7"}))
    assert isinstance(opened, DuckDBWarehouse)
    assert (opened.path, opened.wait) == (tmp_path / "warehouse.duckdb", 7)
    snowflake = {"ACCOUNT": "a", "USER": "u", "WAREHOUSE": "w", "TOKEN": "t"}
    chosen = Settings.load({"C360_WAREHOUSE": "snowflake"} | {f"SNOWFLAKE_{n}": v for n, v in snowflake.items()})
    other = open_warehouse(chosen)
    assert isinstance(other, SnowflakeWarehouse)
    assert snowflake.items() <= {n.removeprefix("SNOWFLAKE_"): v for n, v in other.dbt_environment().items()}.items()
