"""Audit, values: how the columns of somebody's history and log become comparable, whatever their types.

Keys are trimmed text, instants UTC microseconds, flags 0 and 1. What a column means is decided in audit_shapes. Each
engine names its types its own way: the expression follows the type's name, in the tables below and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from c360_assets import instants
from c360_assets.warehouse import Session


class AuditError(ValueError):
    """A table cannot be audited as asked; the text says what is there and which option to give."""


@dataclass(frozen=True)
class HistoryTable:
    """A table with a row per key and version. `open_end`: an end at or after it means open, as null does.

    `end_inclusive` is the unit (day, second, ...) in which ends are written if the end still belongs to the version.
    """

    table: str
    key: tuple[str, ...]
    valid_from: str
    valid_to: str
    open_end: str | None = None
    is_current: str | None = None
    deleted: str | None = None
    attributes: tuple[str, ...] = ()
    end_inclusive: str | None = None
    shape: str = "as told"
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogTable:
    """A table with a row per copy of a change event. `arrived`, when or in which batch it came, tells causes apart."""

    table: str
    key: tuple[str, ...]
    event_time: str
    op: str | None = None
    delete_codes: tuple[str, ...] = ("d", "delete", "deleted")
    position: str | None = None
    attributes: tuple[str, ...] = ()
    arrived: str | None = None


@dataclass(frozen=True)
class Rows:
    """Selects with the columns k1.. and a1.., on histories s, e, cur, del, on logs t, p, r, del; `a` names a1..."""

    history: str
    log: str | None
    keys: int
    attributes: tuple[str, ...]
    content: str
    remarks: tuple[str, ...]


OPEN = "cast('9999-12-31 23:59:59.999999' as timestamp without time zone)"
NO_END = datetime(9999, 12, 31, 23, 59, 59, 999999)
YES, NO = ("true", "t", "yes", "y", "1", "current"), ("false", "f", "no", "n", "0", "expired", "historical")

# How a value of the type becomes UTC microseconds without zone; what is finer is cut. The names are DuckDB's, then
# Snowflake's, and the text types tell the engines apart where nothing else does.
_TEXT = "nullif(trim({0}), '')"
_TO_UTC = "date_trunc('microsecond', cast(convert_timezone('UTC', {0}) as timestamp_ntz))"
_INSTANT = {
    "date": "cast({0} as timestamp without time zone)",
    "timestamp": "{0}",
    "timestamp_s": "cast({0} as timestamp)",
    "timestamp_ms": "cast({0} as timestamp)",
    "timestamp_ns": "make_timestamp(epoch_ns({0}) // 1000)",  # a cast would round
    "timestamp with time zone": "timezone('UTC', {0})",
    "varchar": f"timezone('UTC', try_cast({_TEXT} as timestamptz))",
    "timestamp_ntz": "date_trunc('microsecond', {0})",
    "timestamp_ltz": _TO_UTC,
    "timestamp_tz": _TO_UTC,
    "text": _TO_UTC.format(f"try_cast({_TEXT} as timestamp_tz)"),
}
_TIMES = _INSTANT.keys() - {"varchar", "text"}
_SNOWFLAKE_TYPES = {"text", "number", "timestamp_ntz", "timestamp_ltz", "timestamp_tz"}
_SHA256 = {True: "sha2({0}, 256)", False: "sha256({0})"}
_BYTES = {True: "length(to_binary({0}, 'utf-8'))", False: "strlen({0})"}
_NUMBERS = {"number", "decimal", "numeric", "float", "double", "real", "hugeint", "uhugeint"} | {
    f"{sign}{size}int" for sign in ("", "u") for size in ("tiny", "small", "big")
} | {"integer", "uinteger"}  # fmt: skip


class Table:
    """A table as information_schema tells it: its quoted name, its columns {lower case: name as stored, type}."""

    def __init__(self, session: Session, table: str) -> None:
        parts = [part.strip('"').lower() for part in table.split(".")]
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise AuditError(f"'{table}' is no name of a table: write schema.table")
        asked = dict(zip(("table_name", "table_schema", "table_catalog"), reversed(parts), strict=False))
        found = session.rows(
            "select table_catalog, table_schema, table_name, column_name, lower(data_type) "
            "from information_schema.columns where "
            + " and ".join(f"lower({column}) = ?" for column in asked)
            + " order by 1, 2, 3, ordinal_position",
            list(asked.values()),
        )
        places = sorted({tuple(str(part) for part in row[:3]) for row in found})
        if not places:
            raise AuditError(f"there is no table '{table}'; write schema.table, as c360 query would read it")
        if len(places) > 1:
            there = ", ".join(".".join(place) for place in places)
            raise AuditError(f"'{table}' may be one of several tables: {there}; name schema and database too")
        self.told = table
        self.name = ".".join(quoted(part) for part in places[0])
        self.columns = {str(row[3]).lower(): (str(row[3]), str(row[4]).split("(")[0].strip()) for row in found}

    def column(self, name: str, option: str) -> str:
        """The column as it is stored."""
        if name.lower() not in self.columns:
            raise AuditError(f"'{self.told}' has no column '{name}' ({option}); there are: {self.listed()}")
        return self.columns[name.lower()][0]

    def named(self, names: Iterable[str], option: str) -> tuple[str, ...]:
        return tuple(self.column(name, option) for name in names)

    def first_of(self, names: Iterable[str]) -> str | None:
        return next((self.columns[name][0] for name in names if name in self.columns), None)

    def type_of(self, column: str) -> str:
        return self.columns[column.lower()][1]

    def is_time(self, column: str) -> bool:
        return self.type_of(column) in _TIMES

    def listed(self) -> str:
        return ", ".join(name for name, _ in self.columns.values())

    def instant(self, column: str) -> str:
        """The column's values as instants."""
        kind = self.type_of(column)
        if kind not in _INSTANT:
            raise AuditError(f"{column} of '{self.told}' is of type {kind}, which is no time: name another, or a view")
        return _INSTANT[kind].format(quoted(column))

    def checked_instant(self, session: Session, column: str) -> str:
        """The same; text that is no time is an error that names it."""
        instant = self.instant(column)
        if not self.is_time(column):
            text = _TEXT.format(quoted(column))
            wrong = session.rows(
                f"select {text} from {self.name} where {text} is not null and {instant} is null limit 1"
            )
            if wrong:
                raise AuditError(
                    f"{column} of '{self.told}' holds '{wrong[0][0]}', which reads as no time; wanted is "
                    "2024-01-31 or 2024-01-31T08:00:00Z: mend it, or audit a view that does"
                )
        return instant

    def checked_flag(self, session: Session, column: str, yes: Sequence[str] = YES) -> str:
        """A column of yes and no, in whatever words, as 1 and 0."""
        word = f"lower(trim(cast({quoted(column)} as varchar)))"
        wrong = session.rows(
            f"select {word} from {self.name} where {word} not in ({_literals((*yes, *NO, ''))}) limit 1"
        )
        if wrong:
            raise AuditError(
                f"{column} of '{self.told}' holds '{wrong[0][0]}', which is neither yes ({', '.join(yes)}) "
                f"nor no ({', '.join(NO)})"
            )
        return f"case when {word} in ({_literals(yes)}) then 1 else 0 end"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literals(words: Iterable[str]) -> str:
    return ", ".join("'" + word.replace("'", "''") + "'" for word in words)


def rows_of(session: Session, history: HistoryTable, log: LogTable | None) -> Rows:
    """Both tables as selects with columns of one kind, and what the reader should know of the comparison."""
    there = Table(session, history.table)
    remarks = [f"{history.table} is read as {history.shape}: [{history.valid_from}, {history.valid_to})"]
    if history.open_end:
        remarks.append(f"{history.valid_to} at or after {history.open_end} is read as open")
    other = Table(session, log.table) if log else None
    shared = {a.lower() for a in log.attributes} if log else set()
    attributes = [a for a in history.attributes if log is None or a.lower() in shared]
    if not attributes:
        raise AuditError(f"no column is left to compare in '{history.table}': give --attributes; {there.listed()}")
    not_compared = [*history.left_out, *(a for a in history.attributes if a not in attributes)]
    if not_compared:
        remarks.append(f"not compared: {', '.join(not_compared)}; --attributes names what is")
    ours, theirs = [], []
    for a in attributes:
        kind = there.type_of(a)
        told = other.type_of(a) if other else kind
        one, two, remark = _comparable(a, kind, other.column(a, "--attributes") if other else a, told)
        ours.append(one)
        theirs.append(two)
        remarks += [remark] if remark else []
    end = there.checked_instant(session, history.valid_to)
    if history.open_end:
        end = f"case when {end} < {_literal(history.open_end, '--open-end')} then {end} end"
    if history.end_inclusive:
        end = f"{end} + interval '1 {history.end_inclusive}'"
    columns = {
        **_keys(history.key),
        "s": there.checked_instant(session, history.valid_from),
        "e": f"coalesce({end}, {OPEN})",
        "cur": there.checked_flag(session, history.is_current) if history.is_current else "cast(null as integer)",
        "del": there.checked_flag(session, history.deleted) if history.deleted else "0",
        **{f"a{n}": expression for n, expression in enumerate(ours, 1)},
    }
    log_rows = None
    if log and other:
        gone = f"lower(trim(cast({quoted(log.op)} as varchar)))" if log.op else "''"
        log_columns = {
            **_keys(log.key),
            "t": other.checked_instant(session, log.event_time),
            "p": quoted(log.position) if log.position else "cast(null as integer)",
            "r": quoted(log.arrived) if log.arrived else "cast(null as integer)",
            "del": f"case when {gone} in ({_literals(log.delete_codes)}) then 1 else 0 end",
            **{f"a{n}": expression for n, expression in enumerate(theirs, 1)},
        }
        log_rows = _select(log_columns, other.name)
    kinds = {kind for table in (there, other) if table for _, kind in table.columns.values()}
    return Rows(
        _select(columns, there.name), log_rows, len(history.key), tuple(attributes),
        _content([a.lower() for a in attributes], bool(kinds & _SNOWFLAKE_TYPES)), tuple(remarks),
    )  # fmt: skip


def _keys(columns: Sequence[str]) -> dict[str, str]:
    return {f"k{n}": f"nullif(trim(cast({quoted(c)} as varchar)), '')" for n, c in enumerate(columns, 1)}


def _select(columns: Mapping[str, str], table: str) -> str:
    return "select " + ", ".join(f"{expression} as {name}" for name, expression in columns.items()) + f" from {table}"


def _comparable(name: str, kind: str, other_name: str, other_kind: str) -> tuple[str, str, str | None]:
    """The column of the history and that of the log in one type."""
    one, other = quoted(name), quoted(other_name)
    if kind == other_kind or {kind, other_kind} <= _NUMBERS:
        return one, other, None
    if {kind, other_kind} <= _TIMES:
        return _INSTANT[kind].format(one), _INSTANT[other_kind].format(other), None
    remark = f"{name} is compared as text: it is {kind} in the history, {other_kind} in the log"
    return f"cast({one} as varchar)", f"cast({other} as varchar)", remark


def _content(names: list[str], snowflake: bool) -> str:
    """The hash that decides between events of one instant: of `name=<bytes>:<text>;` by name, nulls left out."""
    parts = []
    for name, number in sorted((name, number) for number, name in enumerate(names, 1)):
        text = f"cast(a{number} as varchar)"
        label = name.replace("'", "''")
        size = f"cast({_BYTES[snowflake].format(text)} as varchar)"
        parts.append(f"coalesce('{label}=' || {size} || ':' || {text} || ';', '')")
    return _SHA256[snowflake].format(" || ".join(parts))


def _literal(instant: str, option: str) -> str:
    try:
        naive = instants.read(instant)
    except ValueError:
        raise AuditError(f"{option} '{instant}' is no time; write 9999-12-31 or 9999-12-31T23:59:59") from None
    return f"cast('{naive}' as timestamp without time zone)"
