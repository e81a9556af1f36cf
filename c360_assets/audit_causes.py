"""Audit, causes: what each code means, and the sentence that says of one fault how it came about.

A row of the statement in audit_sql becomes a Fault. A cause is said as far as the data show it: where two causes leave
the same trace, both are named, and what would tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from c360_assets import instants, output
from c360_assets.audit_columns import NO_END, Rows
from c360_assets.audit_sql import FIELDS

SHOWN_VALUES, SHOWN_LENGTH = 4, 60

# What each code says; what stands in NOTES cannot be called wrong.
CODES = {
    "null_key": "rows without a key",
    "null_start": "versions without a start",
    "negative_version": "versions that end before they start",
    "empty_version": "versions that end when they start",
    "duplicate_version": "versions that are there more than once",
    "two_open_versions": "keys with more than one open version",
    "overlap": "versions that begin while one before still holds",
    "touching_versions_equal": "versions equal to the one before",
    "current_flag_disagrees": "flags of being current that the end denies",
    "unknown_key": "keys of which the log has no event",
    "missing_key": "keys of the log that the history lacks",
    "lost_event": "changes that no version shows",
    "wrong_start": "versions that start at another time than their change",
    "wrong_end": "versions that end at another time than the change or delete after them",
    "wrong_values": "versions that show other values than their change",
    "surplus_version": "versions that no change explains",
    "gap_without_delete": "ends after which nothing holds, without a delete",
    "delete_ignored": "deletes that ended no version",
    "deleted_key_still_open": "deleted keys with an open version",
    "reinsert_gap_lost": "gaps between a delete and an insert of the same values that are not there",
    "gap": "times in which nothing holds; right where the key was deleted, which only a log can tell",
    "tie": "instants of which the log leaves open what came last",
}
NOTES = ("gap", "tie")


@dataclass(frozen=True)
class Fault:
    """`since` and `until` are the instants it is about, UTC; `cause` is a sentence with the values."""

    code: str
    key: tuple[str | None, ...]
    since: datetime | None
    until: datetime | None
    cause: str


@dataclass(frozen=True)
class Found:
    """A row of the statement: instants i1 to i4, a number, a word, the values before and those that it is about."""

    code: str
    key: tuple[str | None, ...]
    i1: datetime | None
    i2: datetime | None
    i3: datetime | None
    i4: datetime | None
    n: int
    hint: str
    names: tuple[str, ...]
    old: tuple[str | None, ...]
    new: tuple[str | None, ...]

    @classmethod
    def of(cls, row: Sequence[Any], rows: Rows) -> Found:
        code, *rest = row[:-1]
        key, fields = rest[: rows.keys], rest[rows.keys : rows.keys + len(FIELDS)]
        values = rest[rows.keys + len(FIELDS) :]
        half = len(rows.attributes)
        i1, i2, i3, i4 = (_naive(instant) for instant in fields[:4])
        old, new = tuple(values[:half]), tuple(values[half:])
        return cls(code, tuple(key), i1, i2, i3, i4, int(fields[4]), fields[5], rows.attributes, old, new)

    def fault(self) -> Fault:
        since, until = self.i1, self.i2
        if self.code == "gap_without_delete":
            since = self.i3
        elif self.code in ("delete_ignored", "deleted_key_still_open", "reinsert_gap_lost"):
            since, until = self.i2, self.i4
        return Fault(self.code, self.key, since, until, CAUSES[self.code](self))

    @property
    def state(self) -> str:
        return _state(self.names, self.new)

    @property
    def change(self) -> str:
        """Columns that differ, as `city: Rome→Oslo`."""
        differing = [
            f"{name}: {_value(old)}→{_value(new)}"
            for name, old, new in zip(self.names, self.old, self.new, strict=True)
            if old != new
        ]
        return "(" + ", ".join(differing or ["nothing differs"]) + ")"


def _naive(instant: datetime) -> datetime | None:
    utc = instants.utc(instant)
    return None if utc == NO_END else utc


def _value(value: str | None) -> str:
    return "null" if value is None else value if len(value) <= SHOWN_LENGTH else value[:SHOWN_LENGTH] + "…"


def _state(names: Sequence[str], values: Sequence[str | None]) -> str:
    shown = [f"{name}={_value(value)}" for name, value in zip(names, values, strict=True)]
    return "(" + ", ".join(shown[:SHOWN_VALUES]) + (", …" if len(shown) > SHOWN_VALUES else "") + ")"


def _at(instant: datetime | None) -> str:
    return output.text_of(instant) if instant else "never"


def _until(instant: datetime | None) -> str:
    return f"until {_at(instant)}" if instant else "and is open"


def _two_open(f: Found) -> str:
    if f.i1 == f.i2 and f.old == f.new:
        return f"{f.n} open versions since {_at(f.i1)} {f.state}: the same change was inserted {f.n} times"
    return (
        f"{f.n} open versions, from {_at(f.i1)} {_state(f.names, f.old)} to {_at(f.i2)} {f.state}: each of several "
        "changes opened one, as when they come in one batch or out of order, and none closed the one before"
    )


def _overlap(f: Found) -> str:
    if f.i4 is None:
        return f"the version from {_at(f.i1)} {f.state} begins while an earlier one holds {_until(f.i2)}"
    begins = f"the version from {_at(f.i1)} {f.state} begins while that from {_at(f.i4)} {_state(f.names, f.old)} holds"
    if f.i2 is None:
        return f"{begins}, which was never closed"
    if f.i2 == f.i3:
        return f"{begins}; both end at {_at(f.i2)}: several changes of one batch were applied to the same open version"
    return f"{begins} until {_at(f.i2)}: it was closed by another change, or at the time of a run, not by this one"


def _lost(f: Found) -> str:
    tied, is_insert, is_deleted = bool(f.n & 1), bool(f.n & 2), bool(f.n & 4)
    lost = f"the insert at {_at(f.i1)} {f.state}" if is_insert else f"the change at {_at(f.i1)} {f.change}"
    next_change = f"the {'delete' if is_deleted else 'change'} at {_at(f.i2)}" if f.i2 else ""
    if f.hint == "with next":
        cause = f"it came in one batch with {next_change}, and only the last of them was kept"
    elif f.hint == "after next":
        cause = f"it came after {next_change} had been applied: a late event was dropped"
    elif f.hint == "with before":
        cause = "it came in one batch with the change before it, and only the first of them was kept"
    elif f.hint == "before it":
        cause = "it came before the change that precedes it: it was taken for a no-op then, and forgotten"
    elif f.hint == "in order":
        cause = "it came in its turn, alone, and was not taken"
    elif f.i3:
        cause = (
            f"the history goes on with {_at(f.i3)}: either it came late and was dropped, or several changes came in "
            "one batch and only the last was kept; a column that says when a row came would tell (--arrived)"
        )
    elif f.i2:
        cause = f"{next_change} was applied without it: both came in one batch, or it came late and was dropped"
    elif f.i4 and f.i1 and f.i1 > f.i4:
        cause = f"the newest version of the whole history starts at {_at(f.i4)}: it was not run since"
    else:
        cause = "nothing later of the key is there: only the first change of a batch was kept, or it was never taken"
    more = "; the log has several changes of this instant and nothing that tells their order" if tied else ""
    return f"{lost} is in no version: {cause}{more}"


def _wrong_start(f: Found) -> str:
    right, wrong = f.i1 or NO_END, f.i2 or NO_END
    apart = abs(wrong - right)
    if wrong <= datetime(1970, 1, 1):
        cause = "the first version was given a start of 'since ever'"
    elif f.i3:
        cause = "that is the time of another event of the key, which changed nothing or came to nothing"
    elif wrong.date() == right.date() and wrong.time() == time():
        cause = "the time of day was cut off"
    elif apart <= timedelta(hours=14) and apart % timedelta(minutes=15) == timedelta():
        cause = f"no event of the key is of that time; {apart} apart is a time zone, as it seems"
    elif wrong > right:
        cause = "no event of the key is of that time: the time of a run or load was taken for the event's"
    else:
        cause = "no event of the key is of that time"
    return f"the version {f.state} starts at {_at(f.i2)}, its change is of {_at(f.i1)}: {cause}"


def _wrong_values(f: Found) -> str:
    if f.i3 is None:
        cause = "no event of the key has these values"
    elif f.i3 == f.i1:
        cause = "they are of another event of that instant, which comes first in the order"
    elif f.i1 and f.i3 > f.i1:
        cause = f"they are of the change at {_at(f.i3)}: the version was overwritten in place"
    else:
        cause = f"they are of the event at {_at(f.i3)}: the older values were kept"
    return f"the version from {_at(f.i1)} is not what the log says {f.change}: {cause}"


def _wrong_end(f: Found) -> str:
    version = f"the version from {_at(f.i1)} {_state(f.names, f.old)}"
    ends = f"ends at {_at(f.i3)}" if f.i3 else "is still open"
    if f.n:
        return f"{version} {ends}, the delete is of {_at(f.i2)}: the time of a run was taken for the delete's"
    if f.i3 is None:
        return (
            f"{version} is still open, though {_at(f.i2)} brought {f.change}: an event that came late, "
            "after one of later time, was made the current one"
        )
    return f"{version} {ends}, the change after it is of {_at(f.i2)} {f.change}"


def _gap_without_delete(f: Found) -> str:
    version = f"the version from {_at(f.i1)} {_state(f.names, f.old)}"
    ends = f"{version} ends at {_at(f.i3)} and nothing holds after it"
    if f.i2 is None:
        return f"{ends}, but the log has no delete: what was missing in one load was taken for deleted"
    if f.i3 and f.i2 - f.i3 <= timedelta(days=1):
        return f"{ends} until {_at(f.i2)}, {f.i2 - f.i3} later: are ends written inclusively (--end-inclusive)?"
    return f"{ends} until {_at(f.i2)}, but the log has no delete in between"


def _surplus(f: Found) -> str:
    version = f"no change opens the version from {_at(f.i1)} {_until(f.i2)} {f.state}"
    if f.hint == "delete":
        return (
            f"{version}: at that instant the log deletes the key; if a column marks deleted rows, name it (--deleted)"
        )
    if f.hint == "no change":
        return f"{version}: the event of that instant that counts changes nothing, or another of that instant counts"
    if f.i3 is None:
        return f"{version}: no event of the key is of that time, and none has these values"
    return (
        f"{version}: no event of the key is of that time; its values are of the event at {_at(f.i3)}, "
        "so it was opened at the time of a run or load"
    )


CAUSES: dict[str, Callable[[Found], str]] = {
    "null_key": lambda f: f"a part of the key is null or empty {f.state}: whose version this is cannot be known",
    "null_start": lambda f: f"the version {_until(f.i2)} {f.state} has no start",
    "negative_version": lambda f: (
        f"the version {f.state} starts at {_at(f.i1)} and ends at {_at(f.i2)}, before it: a late event, or one of the "
        "same batch, closed it though it is older"
    ),
    "empty_version": lambda f: (
        f"the version {f.state} starts and ends at {_at(f.i1)}: another change of the same instant holds in its place"
    ),
    "duplicate_version": lambda f: (
        f"the version from {_at(f.i1)} {_until(f.i2)} {f.state} is there {f.n} times: a batch was applied again"
    ),
    "two_open_versions": _two_open,
    "overlap": _overlap,
    "touching_versions_equal": lambda f: (
        f"the version from {_at(f.i1)} {f.state} is equal to that from {_at(f.i3)}, which it follows: "
        "an event that changed nothing opened it"
    ),
    "current_flag_disagrees": lambda f: (
        f"the version from {_at(f.i1)} {f.state} is marked {'current' if f.n else 'not current'}, "
        + (f"but ended at {_at(f.i2)}" if f.i2 else "but is open")
    ),
    "unknown_key": lambda f: (
        f"{f.n} versions since {_at(f.i1)}, and no event in the log: it does not reach back so far, or the row is of "
        "another source"
    ),
    "missing_key": lambda f: f"the log implies {f.n} versions since {_at(f.i1)}, the history has none",
    "lost_event": _lost,
    "wrong_start": _wrong_start,
    "wrong_end": _wrong_end,
    "wrong_values": _wrong_values,
    "surplus_version": _surplus,
    "gap_without_delete": _gap_without_delete,
    "delete_ignored": lambda f: (
        f"the delete at {_at(f.i2)} ended nothing: the version from {_at(f.i1)} {_state(f.names, f.old)} "
        + (f"goes on until {_at(f.i3)}" if f.i3 else "is open")
        + f", though nothing held until {_at(f.i4)}"
    ),
    "deleted_key_still_open": lambda f: (
        f"deleted at {_at(f.i2)}, and no event after that; the version from {_at(f.i1)} "
        f"{_state(f.names, f.old)} is still open"
    ),
    "reinsert_gap_lost": lambda f: (
        f"deleted at {_at(f.i2)} and inserted again with the same values at {_at(f.i4)}: nothing held in between, "
        f"but the version from {_at(f.i1)} {_state(f.names, f.old)} "
        + (f"goes on until {_at(f.i3)}" if f.i3 else "goes on")
    ),
    "gap": lambda f: f"nothing holds from {_at(f.i1)} until {_at(f.i2)}: right if the key was deleted (--log tells)",
    "tie": lambda f: (
        f"the log has several events of {_at(f.i1)} and nothing that tells their order: c360 would take another than "
        f"the history did {f.change if any(f.old) else f.state}; a position would decide (--position)"
    ),
}
