"""DuckDB behind the warehouse's interface: one file, one writer at a time.

Belongs here: the writer's lock, connections, the file's copies and its being written anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, TypeVar

import duckdb
import psutil

from c360_assets.settings import Settings
from c360_assets.warehouse import (
    DATE,
    DECIMAL,
    INTEGER,
    TEXT,
    TIMESTAMP,
    Announce,
    NotAQuery,
    NoWarehouse,
    Session,
    Warehouse,
    WarehouseBusy,
    fetched,
    literals,
)

T = TypeVar("T")


class _Kept(threading.local):
    """The connection that this thread keeps over several units of work, if it does."""

    connection: duckdb.DuckDBPyConnection | None = None


class DuckDBWarehouse:
    """One file, one writer. A lock of ours beside the file queues processes before DuckDB's own would refuse them."""

    engine = "duckdb"
    target = "duckdb"
    database = ""
    starts_dbt = ""
    does_without_dbt = True
    sleeps = False

    def __init__(
        self,
        path: Path,
        wait: float = 60.0,
        announce: Announce = lambda text: None,
        memory_mb: int = Settings.memory_mb,
    ) -> None:
        self.path = path
        self.memory_mb = memory_mb
        self.wait = wait
        self.announce = announce
        self._lock = path.with_suffix(".lock")
        # Who waits holds this one, shared.
        self._asked = path.with_suffix(".asked")
        self._kept = _Kept()

    def dbt_environment(self) -> dict[str, str]:
        return {"C360_DUCKDB_PATH": str(self.path), "C360_DUCKDB_MEMORY": f"{self.memory_mb}MB"}

    @contextmanager
    def kept(self, purpose: str) -> Iterator[None]:
        if self._kept.connection is not None:
            yield
            return
        with self.held(purpose):
            self._kept.connection = self._to_keep()
            try:
                yield
            finally:
                self._kept.connection.close()
                self._kept.connection = None

    @contextmanager
    def writing(self, purpose: str) -> Iterator[Session]:
        if self._kept.connection is not None:
            yield _KeptSession(self._kept)
            return
        with self.held(purpose):
            connection = self._to_write()
            try:
                yield DuckDBSession(connection)
            finally:
                connection.close()

    def _to_write(self) -> duckdb.DuckDBPyConnection:
        connection = self._connect(read_only=False, until=time.monotonic() + self.wait)
        # A checkpoint at every commit costs ten times the commit; it follows when the log has grown.
        connection.execute("set checkpoint_threshold = '256MB'")
        connection.execute("set preserve_insertion_order = false")
        # What one of our own statements needs is little; without a bound DuckDB keeps what it has loaded.
        connection.execute("set memory_limit = '1GB'")
        return connection

    def merge_next(self) -> None:
        # Of each table as many small row groups as one full one takes.
        if self._kept.connection is not None:
            with suppress(duckdb.Error):  # a connection that is broken is closed and opened again
                self._kept.connection.execute("set max_vacuum_tasks = 1")

    def _to_keep(self) -> duckdb.DuckDBPyConnection:
        connection = self._to_write()
        # What DuckDB merges at a checkpoint it compresses anew: six times a checkpoint's work, seconds at a time.
        connection.execute("set max_vacuum_tasks = 0")
        return connection

    @contextmanager
    def reading(self, wait: float | None = None) -> Iterator[Session]:
        if self._kept.connection is not None:
            yield _KeptSession(self._kept)
            return
        if not self.path.exists():
            raise NoWarehouse(f"there is no warehouse at {self.path} yet: land files and run c360 sync")
        until = time.monotonic() + (self.wait if wait is None else wait)
        with self._locked(fcntl.LOCK_SH, "reading", until):
            connection = self._connect(read_only=True, until=until)
            try:
                # A file that is open for reading could still be copied out, and others read.
                connection.execute("set enable_external_access = false")
                yield DuckDBSession(connection)
            finally:
                connection.close()

    def purge(self) -> str:
        """By a file written anew: DuckDB leaves deleted rows in the old one until it needs the place."""
        fresh, log = self.path.with_suffix(".anew"), self.path.with_name(self.path.name + ".wal")
        with self.held("writing the warehouse anew"):
            fresh.unlink(missing_ok=True)
            connection = duckdb.connect()
            try:
                connection.execute(f"set memory_limit = '{self.memory_mb}MB'")
                # Views say in which database their tables are: under the name that the file gives it.
                name = self.path.stem
                for place, database in ((self.path, name), (fresh, "anew")):
                    connection.execute(f"""attach '{str(place).replace("'", "''")}' as {database}""")
                connection.execute(f"copy from database {name} to anew")
                # All of it in the files: a log that is left belongs to a file that is not there any more.
                for database in (name, "anew"):
                    connection.execute(f"checkpoint {database}")
            finally:
                connection.close()
            fresh.replace(self.path)
            for left in (log, fresh.with_name(fresh.name + ".wal")):
                left.unlink(missing_ok=True)
        return ""

    @contextmanager
    def copied(self, folder: Path) -> Iterator[Warehouse]:
        if self.path.exists():
            with self._locked(fcntl.LOCK_SH, "copying", time.monotonic() + self.wait):
                for file in (self.path, self.path.with_name(self.path.name + ".wal")):
                    if file.exists():
                        shutil.copyfile(file, folder / file.name)
        yield DuckDBWarehouse(folder / self.path.name, self.wait, self.announce, self.memory_mb)

    @contextmanager
    def beside(self, other: Warehouse) -> Iterator[tuple[Session, str]]:
        assert isinstance(other, DuckDBWarehouse)  # the two are copies of one another
        until = time.monotonic() + self.wait
        with self._locked(fcntl.LOCK_SH, "comparing", until), other._locked(fcntl.LOCK_SH, "comparing", until):
            connection = self._connect(read_only=True, until=until)
            try:
                place = str(other.path).replace("'", "''")
                connection.execute(f"attach '{place}' as before (read_only)")
                yield DuckDBSession(connection), "before"
            finally:
                connection.close()

    @contextmanager
    def held(self, purpose: str) -> Iterator[None]:
        if self._kept.connection is not None:
            # Who comes has a connection of its own, with settings of its own: ours is opened again behind it.
            self._kept.connection.close()
            try:
                yield
            finally:
                self._kept.connection = self._to_keep()
            return
        until = time.monotonic() + self.wait
        with self._locked(fcntl.LOCK_EX, purpose, until):
            if self.path.exists():
                # A dbt whose parent was killed may still be at work; our lock went with the parent, DuckDB's did not.
                self._connect(read_only=True, until=until).close()
            yield

    def is_wanted(self) -> bool:
        """Does another process wait for it?"""
        if not self._asked.exists():
            return False
        with self._asked.open("a") as asked:
            try:
                fcntl.flock(asked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def dbt_here(self) -> Iterator[None]:
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        try:
            yield
        finally:
            # Else this process keeps DuckDB's lock on the file.
            DuckDBConnectionManager.close_all_connections()

    @contextmanager
    def _locked(self, mode: int, purpose: str, until: float) -> Iterator[None]:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as lock:
            self._wait(lambda: fcntl.flock(lock, mode | fcntl.LOCK_NB), BlockingIOError, until)
            if mode != fcntl.LOCK_EX:
                yield
                return
            _write_over(lock, json.dumps({"pid": os.getpid(), "purpose": purpose}))
            try:
                yield
            finally:
                _write_over(lock, "")

    def _connect(self, *, read_only: bool, until: float) -> duckdb.DuckDBPyConnection:
        connection = self._wait(lambda: duckdb.connect(str(self.path), read_only=read_only), duckdb.IOException, until)
        connection.execute("set TimeZone = 'UTC'")
        return connection

    def _wait(self, attempt: Callable[[], T], busy: type[Exception], until: float) -> T:
        with ExitStack() as asking:
            said = False
            while True:
                try:
                    return attempt()
                except busy as error:
                    if isinstance(error, duckdb.IOException) and "lock" not in str(error):
                        raise
                    if time.monotonic() >= until:
                        raise WarehouseBusy(
                            f"the warehouse {self.path} is still held by {self._holder()}; try again later, or wait "
                            "longer with C360_WAIT (seconds)"
                        ) from None
                    if not said:
                        self.announce(f"waiting for the warehouse, held by {self._holder()}")
                        said = True
                        fcntl.flock(asking.enter_context(self._asked.open("a")), fcntl.LOCK_SH)
                    time.sleep(0.1)

    def _holder(self) -> str:
        try:
            holder = json.loads(self._lock.read_text())
            # A killed process leaves its name behind; readers leave none.
            return f"process {holder['pid']} ({holder['purpose']})" if psutil.pid_exists(holder["pid"]) else "a reader"
        except (OSError, ValueError, KeyError):
            return "another process"


def _write_over(file: TextIO, text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


class DuckDBSession:
    """A session on one connection to DuckDB; the connection is the caller's."""

    _TYPES = {TEXT: "varchar", INTEGER: "bigint", DECIMAL: "decimal(18,4)", DATE: "date", TIMESTAMP: "timestamp"}

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._opened = connection

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return self._opened

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        self._connection.execute(sql, list(parameters))

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, list(parameters)).fetchall()

    def result(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        count = len(self._connection.extract_statements(sql))
        if count != 1:
            raise NotAQuery(f"one statement is read at a time; there are {count}")
        cursor = self._connection.execute(sql, list(parameters))
        return [d[0] for d in cursor.description or []], fetched(cursor)

    def tables(self) -> set[str]:
        # What is attached is told of as well.
        named = "select table_schema || '.' || table_name from information_schema.tables"
        return {name for (name,) in self.rows(f"{named} where table_catalog = current_database()")}

    def columns(self, table: str) -> list[str]:
        return [name.lower() for name in self.result(f"select * from {table} limit 0")[0]]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("begin transaction")
        try:
            yield
        except BaseException:
            self.execute("rollback")
            raise
        self.execute("commit")

    def ensure(
        self, table: str, columns: Mapping[str, str], *, transient: bool = False, document: str | None = None
    ) -> None:
        self.execute(f"create schema if not exists {table.split('.')[0]}")
        shape = ", ".join(f"{name} {self._TYPES[kind]}" for name, kind in columns.items())
        self.execute(f"create table if not exists {table} ({shape})")
        there = self.columns(table)
        if not set(columns) <= set(there):
            with self.transaction():
                for name, kind in columns.items():
                    if name in there:
                        continue
                    self.execute(f"alter table {table} add column {name} {self._TYPES[kind]}")
                    if document in there and kind == TEXT:
                        given = f"json_extract_string({document}, '$.\"{name}\"')"
                        self.execute(f"update {table} set {name} = {given} where {given} is not null")

    def replace(self, table: str, by: str) -> None:
        with self.transaction():
            self.execute(f"drop table if exists {table}")
            self.execute(f"alter table {by} rename to {table.split('.')[1]}")

    def put(self, files: Sequence[Path]) -> str:
        return "[" + ", ".join("'" + str(f).replace("'", "''") + "'" for f in files) + "]"

    def load(self, table: str, columns: Sequence[str], source: str) -> None:
        names = ", ".join(columns)
        self.execute(f"insert into {table} ({names}) select {names} from read_parquet({source})")

    def called(self, function: str, instants: Sequence[datetime]) -> str:
        return f"{function}({literals(instants, 'timestamp')})"


class _KeptSession(DuckDBSession):
    """A session on the connection that its thread keeps, also where that was opened again behind who had the file."""

    def __init__(self, kept: _Kept) -> None:
        self._kept = kept

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        assert self._kept.connection is not None
        return self._kept.connection
