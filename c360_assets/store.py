"""The serving store: what the API and the dashboards read. SQLite embedded, PostgreSQL by its URL.

Belongs here: its tables, writing them in one transaction per generation, reading them. Knows nothing of the warehouse.
A row is its key and what it is found by, as text, and three JSON objects: `doc`, `personal` with what only some may
see, and `masked`, which stands for it to all others.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from c360_assets import instants

Row = Mapping[str, Any]
MASK = "***"
OBJECTS = ("doc", "personal", "masked")
_STEP = 2_000


class StoreRefused(RuntimeError):
    """The store's server was not reached or refused; the text says what to do."""


@dataclass(frozen=True)
class Shape:
    """A table of the store. `find_by`: lists of columns by which rows are looked up, each with an index; `amounts`:
    numbers of 0 or more among them, in whose order rows are looked up."""

    name: str
    key: tuple[str, ...]
    find_by: tuple[tuple[str, ...], ...] = ()
    personal: tuple[str, ...] = ()
    amounts: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Key first, then what it is found by."""
        return tuple(dict.fromkeys([*self.key, *(column for columns in self.find_by for column in columns)]))

    def stored(self, row: Row) -> dict[str, str]:
        """The row as the store has it."""
        personal = {name: plain(row[name]) for name in self.personal if name in row}
        doc = {name: plain(value) for name, value in row.items() if name not in personal}
        found = {
            column: _in_order(row[column]) if column in self.amounts else text(row[column]) for column in self.columns
        }
        masked = {name: None if value is None else MASK for name, value in personal.items()}
        return found | {"doc": _json(doc), "personal": _json(personal), "masked": _json(masked)}


@dataclass(frozen=True)
class Served:
    """What the store holds: which generation, made of which batch, since when (UTC), in tables of which layout; and the
    mark that this writing of it bears."""

    generation: int
    batch: str
    at: datetime
    layout: str
    mark: str


@dataclass(frozen=True)
class Change:
    """What becomes of a table. `anew`: nothing stays of what it held."""

    shape: Shape
    upserts: Iterable[Row]
    deletes: Iterable[Row] = ()
    anew: bool = False


class Snapshot:
    """One generation of the store, for as long as it is held, whatever is written meanwhile."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def served(self) -> Served | None:
        """None where nothing was ever served."""
        try:
            asked = self._connection.execute(sa.text("select generation, batch, served_at, layout, mark from served"))
            row = asked.one_or_none()
        except (sa.exc.OperationalError, sa.exc.ProgrammingError):
            # To look first would cost as much as a page's questions.
            self._connection.rollback()
            if _has_marks(self._connection):
                raise
            return None
        return Served(row[0], row[1], datetime.fromisoformat(row[2]), *row[3:]) if row else None

    def rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[sa.Row[Any]]:
        """What a query gives; values are bound by name, `:name`."""
        return list(self._connection.execute(sa.text(sql), dict(values or {})))


class Store:
    """The store behind a URL of SQLAlchemy's. Many may read while one writes, and none sees half a generation."""

    def __init__(self, url: str) -> None:
        self.url = sa.engine.make_url(url)
        self._engine = sa.create_engine(self.url)
        self._file = file_of(self.url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _for_many_readers)
            sa.event.listen(self._engine, "begin", _begin)

    def close(self) -> None:
        self._engine.dispose()

    def served(self) -> Served | None:
        """None where nothing was ever served."""
        with self.snapshot() as read:
            return read.served()

    def write(
        self, generation: int, batch: str, changes: Iterable[Change], layout: str = "", mark: str = ""
    ) -> dict[str, tuple[int, int]]:
        """Everything or nothing; {table: rows brought and taken away}."""
        counts: dict[str, tuple[int, int]] = {}
        with self._connection(writes=True) as connection, connection.begin():
            # Nothing that is read is locked for longer than the commit takes: PostgreSQL would let readers wait.
            if not _has_marks(connection):
                connection.execute(sa.text("drop table if exists served"))
                columns = "generation bigint, batch text, served_at text, layout text, mark text"
                connection.execute(sa.text(f"create table served ({columns})"))
            for change in changes:
                self._ensure(connection, change)
                counts[change.shape.name] = (_upsert(connection, change), _delete(connection, change))
            connection.execute(sa.text("delete from served"))
            now = instants.now().isoformat()
            connection.execute(
                sa.text("insert into served values (:generation, :batch, :at, :layout, :mark)"),
                {"generation": generation, "batch": batch, "at": now, "layout": layout, "mark": mark},
            )
        return counts

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """What all that is asked within is of one generation."""
        with self._connection() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield Snapshot(connection)

    def rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[sa.Row[Any]]:
        """What a query gives; values are bound by name, `:name`."""
        with self.snapshot() as read:
            return read.rows(sql, values)

    def found(
        self, texts: Collection[str], is_it: Callable[[str], bool], cells: Mapping[str, str] | None = None
    ) -> dict[str, int]:
        """{table: rows with a value that has one of the texts somewhere and in which `is_it`}, of every table.

        `cells`: {column: what it may hold, and nothing else}; a row that has one counts too.
        """
        with self._connection() as connection:
            names = sa.inspect(connection).get_table_names()
            columns = {name: [c["name"] for c in sa.inspect(connection).get_columns(name)] for name in names}
        values = {f"text_{n}": f"%{literal(text)}%" for n, text in enumerate(texts)}
        found = {}
        for name in names:
            told = {column: value for column, value in (cells or {}).items() if column in columns[name]}
            near = [f"cast({column} as text) like :{value} escape '!'" for column in columns[name] for value in values]
            near += [f"{column} = :{column}" for column in told]
            rows = self.rows(f"select * from {name} where {' or '.join(near)}", values | told) if near else []
            if count := sum(
                any(
                    is_it(str(value)) or told.get(column) == value
                    for column, value in zip(columns[name], row, strict=True)
                )
                for row in rows
            ):
                found[name] = count
        return found

    def purge(self) -> None:
        """Leaves nothing of what was deleted, in the tables or in the log."""
        if self.url.get_backend_name() == "sqlite" and not Path(str(self.url.database)).exists():
            return
        with self._connection() as connection:
            plain = connection.connection.driver_connection
            assert plain is not None
            if self._engine.dialect.name == "sqlite":
                plain.rollback()
                plain.execute("vacuum")
                plain.execute("pragma wal_checkpoint(truncate)")
            else:
                plain.rollback()
                plain.autocommit = True
                plain.execute("vacuum full")
        self.close()

    @contextmanager
    def _connection(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        if (file := file_of(self.url)) != self._file:
            self._engine.dispose()
            self._file = file
        try:
            with self._engine.connect().execution_options(writes=writes) as connection:
                yield connection
        except (sa.exc.OperationalError, sqlite3.OperationalError) as error:
            where = self.url.render_as_string(hide_password=True)
            said = str(getattr(error, "orig", error)).splitlines()[0]
            raise StoreRefused(
                f"the serving store at {where} cannot be used: {said}; C360_SERVING_URL names it"
            ) from error

    def _ensure(self, connection: sa.Connection, change: Change) -> None:
        """The table of the shape, empty if it is made anew."""
        shape = change.shape
        wanted = [*shape.columns, *OBJECTS]
        if change.anew and (found := sa.inspect(connection)).has_table(shape.name):
            same = [column["name"] for column in found.get_columns(shape.name)] == wanted
            connection.execute(sa.text(f"{'delete from' if same else 'drop table'} {shape.name}"))
        # Compared by their bytes, so that pages have one order everywhere.
        kind = 'text collate "C"' if self._engine.dialect.name == "postgresql" else "text"
        columns = ", ".join(f"{name} {kind} not null" for name in wanted)
        connection.execute(
            sa.text(f"create table if not exists {shape.name} ({columns}, primary key ({', '.join(shape.key)}))")
        )
        for columns_of in shape.find_by:
            index = f"{shape.name}_by_{'_'.join(columns_of)}"
            connection.execute(sa.text(f"create index if not exists {index} on {shape.name} ({', '.join(columns_of)})"))


def file_of(url: sa.URL) -> tuple[int, int] | None:
    """Which file a store of SQLite is by now, for a restore puts another in its place; None where there is none."""
    if url.get_backend_name() != "sqlite":
        return None
    try:
        told = Path(str(url.database)).stat()
    except FileNotFoundError:
        return None
    return told.st_dev, told.st_ino


def _has_marks(connection: sa.Connection) -> bool:
    """Is there the table that says what is served, with all its columns?"""
    found = sa.inspect(connection)
    return found.has_table("served") and "mark" in {column["name"] for column in found.get_columns("served")}


def _upsert(connection: sa.Connection, change: Change) -> int:
    shape = change.shape
    names = [*shape.columns, *OBJECTS]
    rest = ", ".join(f"{name} = excluded.{name}" for name in names if name not in shape.key)
    statement = sa.text(
        f"insert into {shape.name} ({', '.join(names)}) values ({', '.join(f':{name}' for name in names)}) "
        f"on conflict ({', '.join(shape.key)}) do update set {rest}"
    )
    count = 0
    for some in _batched(change.upserts):
        connection.execute(statement, [shape.stored(row) for row in some])
        count += len(some)
    return count


def _delete(connection: sa.Connection, change: Change) -> int:
    shape = change.shape
    statement = sa.text(f"delete from {shape.name} where {' and '.join(f'{name} = :{name}' for name in shape.key)}")
    count = 0
    for some in _batched(change.deletes):
        connection.execute(statement, [{name: text(row[name]) for name in shape.key} for row in some])
        count += len(some)
    return count


def _for_many_readers(connection: Any, _: Any) -> None:
    """In SQLite's write-ahead log readers go on with what was there before, and the writer does not wait for them."""
    # Python's driver would begin a transaction late, and leave what makes tables outside it: _begin does.
    connection.isolation_level = None
    for pragma in ("journal_mode = wal", "synchronous = normal", "busy_timeout = 30000"):
        connection.execute(f"pragma {pragma}")


def _begin(connection: sa.Connection) -> None:
    """Who writes waits for another writer here, and not in the middle, where waiting is no use."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("begin immediate" if writes else "begin")


def _batched(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while some := list(islice(left, _STEP)):
        yield some


def plain(value: Any) -> Any:
    """A value as JSON has it: decimals and times are text, exact and in one form."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    return value.isoformat() if isinstance(value, date) else value


def text(value: Any) -> str:
    """A value as rows are found by it; nothing is the empty text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    return str(plain(value))


def _in_order(amount: Any) -> str:
    """A number of 0 or more as text that stands where the number does."""
    return f"{Decimal(amount or 0):025.4f}"


def literal(text: str) -> str:
    """For `like`, nothing in it a wildcard."""
    return "".join(f"!{letter}" if letter in "!%_" else letter for letter in text)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
