"""Audit, shapes: which column of somebody's table is what, by its name and by what is told.

Belongs here: the shapes that dbt, SQLMesh, dlt, Databricks, c360 and hands make. What is told wins; what is not clear
is an error that lists what is there and names the option.
"""

from __future__ import annotations

from collections.abc import Sequence

from c360_assets.audit_columns import OPEN, AuditError, HistoryTable, LogTable, Table
from c360_assets.warehouse import Session

# An end this late was never meant as one.
FAR_FUTURE = "2900-01-01"
UNITS = ("day", "hour", "minute", "second", "millisecond", "microsecond")

# The shapes that tell themselves by their column names: name, start, end, what else has to be there, deletion mark.
_SHAPES: tuple[tuple[str, str, str, tuple[str, ...], str | None], ...] = (
    ("dbt snapshot", "dbt_valid_from", "dbt_valid_to", (), "dbt_is_deleted"),
    ("dlt", "_dlt_valid_from", "_dlt_valid_to", (), None),
    ("Databricks AUTO CDC", "__start_at", "__end_at", (), None),
    ("c360", "valid_from", "valid_to", ("is_current", "change_type", "ended_by"), None),
    ("SQLMesh, or by hand", "valid_from", "valid_to", (), None),
)
_BY_HAND = (
    ("effective_from", "effective_to"), ("effective_start_date", "effective_end_date"),
    ("effective_start", "effective_end"), ("effective_date", "expiration_date"), ("effective_date", "expiry_date"),
    ("effective_date", "end_date"), ("start_date", "end_date"), ("start_time", "end_time"), ("start_at", "end_at"),
    ("begin_date", "end_date"), ("from_date", "to_date"), ("date_from", "date_to"), ("valid_start", "valid_end"),
    ("row_effective_date", "row_expiration_date"),
)  # fmt: skip
_CURRENT = (
    "is_current",
    "current_flag",
    "is_current_flag",
    "current_ind",
    "current_record",
    "is_latest",
    "latest_flag",
)
# What tools and people keep beside a version and what is no state of the thing described.
_META = {
    "dbt_scd_id", "dbt_updated_at", "dbt_is_deleted", "dbt_change_type", "change_type", "ended_by", "row_hash",
    "record_hash", "hash_diff", "hashdiff", "surrogate_key", "version", "version_number", "batch_id", "run_id",
    "loaded_at", "load_date", "load_ts", "inserted_at", "ingested_at", "etl_loaded_at",
}  # fmt: skip
_EVENT_TIME = (
    "event_time", "event_ts", "event_timestamp", "updated_at", "changed_at", "change_time", "modified_at",
    "last_modified", "commit_time", "_commit_timestamp", "occurred_at",
)  # fmt: skip
_OP = ("op", "operation", "_op", "__op", "dml_type", "_change_type", "cdc_operation")
_POSITION = ("position", "source_position", "lsn", "scn", "seq", "sequence", "sequence_number", "offset")
_ARRIVED = ("known_at", "arrived_at", "_loaded_at", "loaded_at", "ingested_at")


def understood(
    session: Session,
    table: str,
    *,
    key: Sequence[str] = (),
    valid_from: str | None = None,
    valid_to: str | None = None,
    open_end: str | None = None,
    is_current: str | None = None,
    deleted: str | None = None,
    attributes: Sequence[str] = (),
    ignore: Sequence[str] = (),
    end_inclusive: str | None = None,
) -> HistoryTable:
    """What the columns of a history mean, by their names and by what is told.

    Raises:
        AuditError: if the key is not told, or the rest cannot be told from the names.
    """
    there = Table(session, table)
    if not key:
        raise AuditError(f"the key of '{table}' cannot be guessed: give --key; there are: {there.listed()}")
    keys = there.named(key, "--key")
    shape, start, end, mark = _interval(there, valid_from, valid_to)
    by_tool = start.lower().startswith(("dbt_", "_dlt_", "__"))
    current = there.column(is_current, "--is-current") if is_current else None
    if current is None and not by_tool:
        current = there.first_of(_CURRENT)
    gone = there.column(deleted, "--deleted") if deleted else mark and there.first_of([mark])
    if end_inclusive and end_inclusive not in UNITS:
        raise AuditError(f"--end-inclusive '{end_inclusive}' is no unit; there are: {', '.join(UNITS)}")
    told = {column.lower() for column in (*keys, start, end, current, gone) if column}
    ignored = {column.lower() for column in there.named(ignore, "--ignore")}
    states = there.named(attributes, "--attributes")
    left_out: list[str] = []
    if not states:
        rest = [name for low, (name, _) in there.columns.items() if low not in told]
        times = [c for c in rest if there.is_time(c) and there.type_of(c) == there.type_of(start)]
        same_as_start = _same_as_start(session, there, start, gone, times)
        left_out = [
            c for c in rest if c.lower() in _META | ignored or c.lower().startswith("_dlt_") or c in same_as_start
        ]
        states = tuple(c for c in rest if c not in left_out)
    return HistoryTable(
        table, keys, start, end, open_end or _far_end(session, there, end), current, gone, states,
        end_inclusive, shape, tuple(left_out),
    )  # fmt: skip


def _interval(there: Table, start: str | None, end: str | None) -> tuple[str, str, str, str | None]:
    """Shape, start, end and deletion mark."""
    options = "give --valid-from and --valid-to"
    if start and end:
        return "as told", there.column(start, "--valid-from"), there.column(end, "--valid-to"), None
    for told, option in ((start, "--valid-from"), (end, "--valid-to")):
        if told:
            there.column(told, option)
    shapes = [*_SHAPES, *(("by hand", *pair, (), None) for pair in _BY_HAND)]
    fitting = [
        (name, there.columns[one][0], there.columns[other][0], mark)
        for name, one, other, further, mark in shapes
        if there.columns.keys() >= {one, other, *further}
        and (start or one).lower() == one
        and (end or other).lower() == other
    ]
    if not fitting:
        raise AuditError(
            f"'{there.told}' shows no start and end of versions by any known name: {options}; "
            f"there are: {there.listed()}"
        )
    pairs = {(one, other) for _, one, other, _ in fitting}
    # A tool's own names are never business columns; any others may be.
    if len(pairs) > 1 and fitting[0][0] not in ("dbt snapshot", "dlt", "Databricks AUTO CDC", "c360"):
        listed = " or ".join(" and ".join(pair) for pair in sorted(pairs))
        raise AuditError(f"versions of '{there.told}' may be bounded by {listed}: {options}")
    return fitting[0]


def _same_as_start(session: Session, there: Table, start: str, gone: str | None, times: list[str]) -> set[str]:
    """Times that say the same as the start in every row, deletion marks apart: they are no state."""
    if not times:
        return set()
    live = f"where not {there.checked_flag(session, gone)} = 1" if gone else ""
    begins = there.instant(start)
    counted = ", ".join(f"sum(case when {there.instant(c)} is distinct from {begins} then 1 else 0 end)" for c in times)
    ((total, *differing),) = session.rows(f"select count(*), {counted} from {there.name} {live}")
    return {column for column, count in zip(times, differing, strict=True) if total and not count}


def _far_end(session: Session, there: Table, end: str) -> str | None:
    """The earliest end that is too far off to be one."""
    instant = there.checked_instant(session, end)
    far = f"cast('{FAR_FUTURE}' as timestamp without time zone)"
    ((count, first),) = session.rows(
        f"select count(*), coalesce(min({instant}), {OPEN}) from {there.name} where {instant} >= {far}"
    )
    return str(first) if count else None


def understood_log(
    session: Session,
    table: str,
    history: HistoryTable,
    *,
    key: Sequence[str] = (),
    event_time: str | None = None,
    op: str | None = None,
    delete_codes: Sequence[str] = (),
    position: str | None = None,
    attributes: Sequence[str] = (),
    arrived: str | None = None,
) -> LogTable:
    """What the columns of a log mean; its key and attributes are the history's if nothing else is told.

    Raises:
        AuditError: if a column is not there, or the event time cannot be told from the names.
    """
    there = Table(session, table)
    keys = there.named(key or history.key, "--log-key")
    if len(keys) != len(history.key):
        raise AuditError(f"the key of the log has {len(keys)} columns, that of the history {len(history.key)}")
    when = there.column(event_time, "--event-time") if event_time else there.first_of(_EVENT_TIME)
    if when is None:
        raise AuditError(
            f"'{table}' shows no time of its events by any known name: give --event-time; there are: {there.listed()}"
        )
    operation = there.column(op, "--op") if op else there.first_of(_OP)
    order = there.column(position, "--position") if position else there.first_of(_POSITION)
    came = there.column(arrived, "--arrived") if arrived else there.first_of(_ARRIVED)
    roles = {column.lower() for column in (*keys, when, operation, order, came) if column}
    states = there.named(attributes, "--attributes") or tuple(
        there.columns[name.lower()][0]
        for name in history.attributes
        if name.lower() in there.columns and name.lower() not in roles
    )
    codes = tuple(code.strip().lower() for code in delete_codes) or LogTable.delete_codes
    return LogTable(table, keys, when, operation, codes, order, states, came)
