"""The warehouse: one small interface, with DuckDB and Snowflake behind it.

Belongs here, in `duckdb_warehouse` and `snowflake.warehouse`: connections, transactions, bulk load, the few types and
statements in which the two engines differ. The only Python that knows a dialect. A connection is held for one unit of
work, never across dbt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from c360_assets.settings import Settings

# The types that our own tables have, whatever the engine calls them.
TEXT, INTEGER, DECIMAL, DATE, TIMESTAMP = "text", "integer", "decimal", "date", "timestamp"

Announce = Callable[[str], None]
T = TypeVar("T")


class WarehouseBusy(RuntimeError):
    """Another process has held the warehouse for longer than we were to wait; the text says which and what to do."""


class NoWarehouse(RuntimeError):
    """There is nothing to read yet."""


class WarehouseRefused(RuntimeError):
    """The warehouse's server refused or was not reached; the text says why and what to do.

    `passes`: may it work when tried again?
    """

    def __init__(self, text: str, *, passes: bool = False) -> None:
        super().__init__(text)
        self.passes = passes


class NotAQuery(ValueError):
    """What was to be read is no single query."""


class Session(Protocol):
    """One connection, for one unit of work. Parameters are written `?`."""

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None: ...

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...

    def result(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Column names and rows, fetched as they are asked for."""
        ...

    def tables(self) -> set[str]:
        """Every `schema.table` that there is, views too."""
        ...

    def columns(self, table: str) -> list[str]:
        """Those of `schema.table`, lower case, in their order."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, and one at a time among those who load."""
        ...

    def ensure(
        self, table: str, columns: Mapping[str, str], *, transient: bool = False, document: str | None = None
    ) -> None:
        """Makes `schema.table` with the columns {name: type of ours}, or adds what it lacks. Not in a transaction.

        `transient`: its rows can be made again, and no copies need be kept of them. `document`: a column of JSON
        objects; a text column that is added gets what stands there under its name.
        """
        ...

    def replace(self, table: str, by: str) -> None:
        """`by`, of the same schema, takes the name of `schema.table`, which may be gone already. Nothing is copied."""
        ...

    def put(self, files: Sequence[Path]) -> str:
        """Brings Parquet files within the engine's reach, outside a transaction; returns what `load` takes."""
        ...

    def load(self, table: str, columns: Sequence[str], source: str) -> None:
        """Rows of the files at `source`, matched by column name, into the table."""
        ...

    def called(self, function: str, instants: Sequence[datetime]) -> str:
        """A table function with its arguments, UTC without zone, as it stands behind `from`."""
        ...


class Warehouse(Protocol):
    """Where the tables are.

    `engine` is duckdb or snowflake, `target` the dbt target that reaches it, `database` its name on a server of many,
    `starts_dbt` the module that starts dbt on it where dbt's own command will not do. `does_without_dbt`: may we run
    again what dbt has told of a build (dbt/macros/alone.sql)? Not where a table that is made anew needs dbt's hooks.
    `sleeps`: does it cost to be awake? Who has no sign that there is something new then asks once an hour, the sensors
    when the hourly run does.
    """

    engine: str
    target: str
    database: str
    starts_dbt: str
    does_without_dbt: bool
    sleeps: bool

    def writing(self, purpose: str) -> AbstractContextManager[Session]: ...

    def reading(self, wait: float | None = None) -> AbstractContextManager[Session]: ...

    def kept(self, purpose: str) -> AbstractContextManager[None]:
        """One connection for all units of work of this thread in the body: to open it costs more than most of them."""
        ...

    def merge_next(self) -> None:
        """When the connection that this thread keeps is closed, rows that came in small parts are put together, some of
        them: a matter of seconds. Else none are."""
        ...

    def is_wanted(self) -> bool:
        """Does somebody wait for it whom a kept connection holds up?"""
        ...

    def held(self, purpose: str) -> AbstractContextManager[None]:
        """Nobody else writes while the body runs; for dbt, which has connections of its own."""
        ...

    def dbt_here(self) -> AbstractContextManager[None]:
        """dbt runs in this process in the body: as it needs it, and leaving nothing open."""
        ...

    def dbt_environment(self) -> dict[str, str]: ...

    def purge(self) -> str:
        """Leaves nothing of what was deleted where it can; the text says who keeps it all the same, or is empty."""
        ...

    def copied(self, folder: Path) -> AbstractContextManager[Warehouse]:
        """A copy of it as it is now, which nobody else knows of; gone when the body ends. `folder` is for files."""
        ...

    def beside(self, other: Warehouse) -> AbstractContextManager[tuple[Session, str]]:
        """Reads both: this warehouse, and the other as the database whose name comes with the session."""
        ...


# What may be gone at the next attempt. Anything else, a failed test first of all, would only fail again.
_PASSING = (
    "could not set lock", "connection", "timed out", "timeout", "temporarily", "too many requests",
    "service unavailable",
)  # fmt: skip


def may_pass(error: BaseException) -> bool:
    """Is it worth trying again what ended with this error?"""
    if isinstance(error, WarehouseRefused):
        return error.passes
    if isinstance(error, WarehouseBusy | ConnectionError):
        return True
    text = str(error).lower()
    return not isinstance(error, ValueError | TypeError | LookupError) and any(word in text for word in _PASSING)


def open_warehouse(settings: Settings, announce: Announce = lambda text: None) -> Warehouse:
    """The warehouse that the settings choose. `announce` is told when something has to wait."""
    if settings.warehouse == "snowflake":
        from c360_assets.snowflake.warehouse import SnowflakeWarehouse

        return SnowflakeWarehouse(settings.snowflake)
    from c360_assets.duckdb_warehouse import DuckDBWarehouse

    return DuckDBWarehouse(settings.duckdb_path, settings.wait, announce, settings.memory_mb)


def insert(session: Session, table: str, columns: Mapping[str, str], rows: Sequence[tuple[object, ...]]) -> None:
    """Rows of Python values, in the order of `columns`, in statements of bounded size."""
    names = ", ".join(columns)
    place = f"({', '.join('?' * len(columns))})"
    step = max(1, 5_000 // len(columns))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        session.execute(
            f"insert into {table} ({names}) values {', '.join([place] * len(some))}", [v for row in some for v in row]
        )


def literals(instants: Sequence[datetime], kind: str) -> str:
    return ", ".join(f"cast('{instant.isoformat(sep=' ')}' as {kind})" for instant in instants)


def fetched(cursor: Any) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(10_000):
        yield from (tuple(row) for row in rows)
