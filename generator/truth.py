"""The expected tables, in plain Python: the oracle of the tests.

`fold` says what a set of change events *means*: identity, order, ties, versions. `truth_of_objects` says which events a
set of customer objects holds, and what becomes of every other row. Both favour being obviously right over being fast,
and share no code with the SQL they judge. What a generator did to its objects is told to them, not found out.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import count, groupby
from typing import Any, TypeAlias

from generator.objects import GeneratedObject
from generator.values import BLANKS, day, instant, instant_of_name, number

Row: TypeAlias = dict[str, Any]
State: TypeAlias = dict[str, str | None]
Position: TypeAlias = tuple[Decimal, ...]

OPEN_END = datetime(9999, 12, 31)
"""What `changes` shows as the end of a version that has none."""


@dataclass(frozen=True)
class Entity:
    """Which columns mean what. A change of a *tracked* column opens a version, one of a *type 1* column corrects it."""

    key: tuple[str, ...]
    tracked: tuple[str, ...]
    type1: tuple[str, ...] = ()
    type1_every_version: bool = False

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Every column with content, in the order of the tables."""
        return self.tracked + self.type1

    @cached_property
    def attributes_by_name(self) -> tuple[str, ...]:
        """Every column with content, in the order of the content hash."""
        return tuple(sorted(self.attributes))


@dataclass(frozen=True)
class Event:
    """One change of one key. `event_time` and `known_at` are naive UTC; `values` is ignored on a delete."""

    key: tuple[str, ...]
    event_time: datetime
    op: str
    values: Mapping[str, str | None] = field(default_factory=dict)
    position: Position | None = None
    partial: bool = False
    known_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.op not in ("upsert", "delete"):
            raise ValueError(f"op {self.op!r} of key {self.key} is neither 'upsert' nor 'delete'")


@dataclass(frozen=True)
class Truth:
    """The tables as sorted lists of rows; `log` has one row per distinct event, in the order in which they apply."""

    current: list[Row]
    history: list[Row]
    ties: list[Row]
    log: list[Row]


def content_hash(entity: Entity, event: Event) -> str:
    """SHA-256, in hex, of what the event states; of the empty string for a delete."""
    text = ""
    if event.op == "upsert":
        for name in entity.attributes_by_name:
            value = event.values.get(name)
            if value is not None:
                text += f"{name}={len(value.encode())}:{value};"
    return hashlib.sha256(text.encode()).hexdigest()


def fold(entity: Entity, events: Iterable[Event]) -> Truth:
    """The tables that `events` imply, whatever their order and however often each of them comes."""
    truth = Truth(current=[], history=[], ties=[], log=[])
    for key, group in groupby(_distinct_in_order(entity, events), key=lambda logged: logged.event.key):
        named_key = dict(zip(entity.key, key, strict=True))
        logged = list(group)
        versions = list(_versions(entity, _states(entity, logged)))
        truth.log.extend(named_key | _log_row(entity, entry) for entry in logged)
        truth.ties.extend(named_key | tie for tie in _ties(logged))
        truth.history.extend(named_key | version for version in versions)
        truth.current.extend(
            named_key | {name: version[name] for name in (*entity.attributes, "valid_from")}
            for version in versions
            if version["is_current"]
        )
    return truth


def changes(truth: Truth) -> list[Row]:
    """One row per version (`dml_type` I or U) and one per delete that ended one (D), by key and start."""
    rows: list[Row] = []
    for version in truth.history:
        columns = {name: value for name, value in version.items() if name not in _VERSION_COLUMNS}
        start, end = version["valid_from"], version["valid_to"]
        rows.append(
            columns
            | {
                "start_time": start,
                "end_time": OPEN_END if end is None else end,
                "is_current": version["is_current"],
                "dml_type": "I" if version["change_type"] == "insert" else "U",
            }
        )
        if version["ended_by"] == "delete":
            rows.append(columns | {"start_time": end, "end_time": end, "is_current": False, "dml_type": "D"})
    return rows


_VERSION_COLUMNS = ("valid_from", "valid_to", "is_current", "change_type", "ended_by")


@dataclass(frozen=True)
class _Logged:
    """A distinct event: all its copies made one."""

    event: Event
    content: str

    @property
    def instant_and_position(self) -> tuple[datetime, bool, Position]:
        """What has to be equal for two events to tie. No position comes before any."""
        position = self.event.position
        return self.event.event_time, position is not None, position or ()


def _distinct_in_order(entity: Entity, events: Iterable[Event]) -> list[_Logged]:
    copies: dict[tuple[tuple[str, ...], datetime, str, str], Event] = {}
    for event in events:
        identity = (event.key, event.event_time, event.op, content_hash(entity, event))
        seen = copies.get(identity)
        copies[identity] = event if seen is None else _merged(seen, event)
    distinct = [_Logged(event, identity[3]) for identity, event in copies.items()]
    return sorted(
        distinct,
        key=lambda logged: (
            logged.event.key,
            logged.instant_and_position,
            logged.event.op == "delete",
            logged.content,
        ),
    )


def _merged(one: Event, other: Event) -> Event:
    """One event of two copies. Where one of them is not partial, its nulls are values: the fuller statement stands."""
    positions = [event.position for event in (one, other) if event.position is not None]
    known = [event.known_at for event in (one, other) if event.known_at is not None]
    return replace(
        one,
        position=max(positions, default=None),
        known_at=min(known, default=None),
        partial=one.partial and other.partial,
    )


def _log_row(entity: Entity, logged: _Logged) -> Row:
    event = logged.event
    given = event.values if event.op == "upsert" else {}
    return {
        **{name: given.get(name) for name in entity.attributes},
        "event_time": event.event_time,
        "op": event.op,
        "position": event.position,
        "partial": event.partial,
        "known_at": event.known_at,
        "content": logged.content,
    }


def _ties(logged: list[_Logged]) -> Iterator[Row]:
    """The ties of one key, whose events come in order: the last of equals wins."""
    for (event_time, _, _), group in groupby(logged, key=lambda entry: entry.instant_and_position):
        *losers, winner = group
        if losers:
            yield {
                "event_time": event_time,
                "winner": winner.content,
                "losers": sorted(loser.content for loser in losers),
                "rule": "delete" if winner.event.op == "delete" else "content",
            }


def _states(entity: Entity, logged: list[_Logged]) -> dict[datetime, State | None]:
    """What holds after the last event of each instant of one key, None for nothing."""
    after: dict[datetime, State | None] = {}
    state: State | None = None
    for entry in logged:
        state = _applied(entity, state, entry.event)
        after[entry.event.event_time] = state
    return after


def _applied(entity: Entity, before: State | None, event: Event) -> State | None:
    if event.op == "delete":
        return None
    state = {name: event.values.get(name) for name in entity.attributes}
    if event.partial and before is not None:
        return {name: before[name] if value is None else value for name, value in state.items()}
    return state


def _versions(entity: Entity, states: dict[datetime, State | None]) -> Iterator[Row]:
    """The versions of one key. Equal neighbours are one, which shows the type 1 values of the last of them."""
    last = next((state for state in reversed(states.values()) if state is not None), None)
    version: Row | None = None
    for when, state in states.items():
        type1 = last if entity.type1_every_version else state
        if version is not None and state is not None and _same(entity.tracked, version, state):
            version |= _only(entity.type1, type1)
            continue
        if version is not None:
            yield version | {
                "valid_to": when,
                "is_current": False,
                "ended_by": "delete" if state is None else "update",
            }
        if state is None:
            version = None
            continue
        version = {
            **state,
            **_only(entity.type1, type1),
            "valid_from": when,
            "valid_to": None,
            "is_current": True,
            "change_type": "insert" if version is None else "update",
            "ended_by": None,
        }
    if version is not None:
        yield version


def _same(columns: tuple[str, ...], one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in columns)


def _only(columns: tuple[str, ...], state: State | None) -> State:
    return {name: state[name] for name in columns} if state is not None else {}


# --- from objects to events -------------------------------------------------------------------------------------------

CUSTOMERS = Entity(
    key=("customer_id",),
    tracked=(
        "first_name",
        "last_name",
        "email",
        "phone",
        "street",
        "city",
        "state",
        "country",
        "signup_date",
        "customer_segment",
    ),
)


@dataclass(frozen=True)
class Account:
    """What became of the rows of one or more objects. Which copy is the duplicate depends on arrival; sums do not."""

    received: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class ObjectsTruth:
    """The tables of a set of objects, an account for each object, and the reason for each refused row (from 1)."""

    truth: Truth
    accounts: dict[str, Account]
    refused: dict[str, dict[int, str]]

    @property
    def total(self) -> Account:
        """The sums over all objects, which no order of arrival changes."""
        each = list(self.accounts.values())
        return Account(
            received=sum(account.received for account in each),
            accepted=sum(account.accepted for account in each),
            quarantined=sum(account.quarantined for account in each),
            duplicates=sum(account.duplicates for account in each),
        )


class RefusedRow(Exception):
    """A sound record that states something which cannot be taken; the text is the reason."""


def truth_of_generated(objects: Iterable[GeneratedObject], entity: Entity = CUSTOMERS) -> ObjectsTruth:
    """`truth_of_objects` of what a generator of customers yielded; an object sent twice counts once."""
    sent = {each.name: each for each in objects}
    return truth_of_objects(
        {name: each.body for name, each in sent.items()},
        refused={name: each.refused for name, each in sent.items()},
        unreadable={name for name, each in sent.items() if each.unreadable},
        entity=entity,
    )


def truth_of_objects(
    objects: Mapping[str, bytes],
    *,
    refused: Mapping[str, Mapping[int, str]] | None = None,
    unreadable: Collection[str] = (),
    entity: Entity = CUSTOMERS,
) -> ObjectsTruth:
    """What customer objects (name to bytes, in order of arrival) must come to.

    `refused` names the records that no reader can take (ordinal from 1, one line each), `unreadable` the objects
    without records. Records that read well but state no key, time, operation or date that counts are found here.
    """
    refusals: dict[str, dict[int, str]] = {}
    accounts: dict[str, Account] = {}
    events: list[Event] = []
    seen: set[tuple[tuple[str, ...], datetime, str, str]] = set()
    for name, body in objects.items():
        reasons = refusals[name] = {}
        received = duplicates = 0
        from_name = instant_of_name(name)
        records = () if name in unreadable else _records(name, body, (refused or {}).get(name, {}))
        for received, record in records:
            try:
                event = _event(entity, record, received, from_name)
            except RefusedRow as refusal:
                reasons[received] = str(refusal)
                continue
            events.append(event)
            identity = (event.key, event.event_time, event.op, content_hash(entity, event))
            duplicates += identity in seen
            seen.add(identity)
        accepted = received - len(reasons) - duplicates
        accounts[name] = Account(received, accepted, len(reasons), duplicates)
    return ObjectsTruth(fold(entity, events), accounts, refusals)


def _records(name: str, body: bytes, refused: Mapping[int, str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    """The records by ordinal: columns to text as it stands there, or the reason why there are none."""
    lines = iter((gzip.decompress(body) if name.endswith(".gz") else body).splitlines(keepends=True))
    rows = csv.reader((line.decode() for line in lines), strict=True)
    header = [column.removeprefix("\ufeff").strip(BLANKS).lower() for column in next(rows, [])]
    for ordinal in count(1):
        if ordinal in refused:
            if next(lines, None) is None:  # past the csv reader, whose source this is too
                raise ValueError(f"{name}: ends before record {ordinal}, which is told as refused")
            yield ordinal, refused[ordinal]
            continue
        row = next(rows, None)
        if row is None:
            break
        if len(row) != len(header):
            raise ValueError(
                f"{name}: record {ordinal} has {len(row)} of {len(header)} fields and is not told as refused"
            )
        yield ordinal, dict(zip(header, row, strict=True))
    if ordinal < max(refused, default=0):
        raise ValueError(f"{name}: ends before record {max(refused)}, which is told as refused")


def _event(entity: Entity, record: dict[str, str] | str, ordinal: int, from_name: datetime | None) -> Event:
    """The event of one record of an object whose name says `from_name`, or RefusedRow."""
    if isinstance(record, str):
        raise RefusedRow(record)
    row = {column: text.strip(BLANKS) or None for column, text in record.items()}
    key = tuple(row.get(column) or "" for column in entity.key)
    if "" in key:
        raise RefusedRow("missing_key_column" if any(column not in row for column in entity.key) else "blank_key")
    if "updated_at" not in row and from_name is None:
        raise ValueError("an object states no time, neither in its name nor in a column updated_at: not known here")
    event_time = instant(row["updated_at"] or "") if "updated_at" in row else from_name
    if event_time is None:
        raise RefusedRow("unreadable_time")
    op = {None: "upsert", "I": "upsert", "U": "upsert", "D": "delete"}.get(row.get("op"))
    if op is None:
        raise RefusedRow("unknown_op")
    position: Position | None = None if "updated_at" in row else (Decimal(ordinal),)
    stated = row.get("source_position")
    if stated is not None:
        sequence = number(stated)
        if sequence is None:
            raise RefusedRow("unreadable_position")
        position = (sequence,)
    values: State = {}
    if op == "upsert":
        values = {column: row.get(column) for column in entity.attributes}
        if values.get("signup_date") is not None:
            values["signup_date"] = day(values["signup_date"] or "")
            if values["signup_date"] is None:
                raise RefusedRow("unreadable_date")
    return Event(key, event_time, op, values, position)
