"""Which events files of changes hold, in plain Python: the oracle of the feeds of Debezium and AWS DMS.

It reads what was written, whoever wrote it, and finds out by itself which records cannot be taken. That takes files in
which each record is one line, as generators and tests write them. Obviously right rather than fast.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from generator.objects import GeneratedObject
from generator.snapshots import Key, Snapshot, implied_deletes
from generator.truth import CUSTOMERS, Entity, Event, Position, RefusedRow
from generator.values import BLANKS, day, instant, number

EPOCH = datetime(1970, 1, 1)
TIME = "dms_timestamp"
_BINLOG = re.compile(r".*\.([0-9]+)")


@dataclass(frozen=True)
class Record:
    """What one line (`ordinal` from 1, a CSV header not counted) comes to: an event, a truncate, a refusal.

    None of the three is a tombstone: the delete before it has said all. `had`: the key and the time of a refused row,
    where they can be read: the feed had that key then.
    """

    ordinal: int
    event: Event | None = None
    truncate: Snapshot | None = None
    refused: str | None = None
    had: tuple[Key, datetime] | None = None


def truth_of_changes(
    objects: Iterable[GeneratedObject], entity: Entity = CUSTOMERS, initial: datetime = EPOCH
) -> list[Event]:
    """The events of all objects of one feed, copies included, for `fold`; `initial` is when a load without times was.

    A truncate deletes what any object had up to its instant, in the order of events, as an empty complete snapshot.
    """
    records = [record for each in objects for record in records_of_changes(each, entity, initial)]
    events = [record.event for record in records if record.event]
    had = [(event.key, event.event_time) for event in events] + [record.had for record in records if record.had]
    files = [Snapshot(moment, frozenset({key}), complete=False) for key, moment in had]
    files += [record.truncate for record in records if record.truncate]
    return events + implied_deletes(files, guard=None)


def records_of_changes(
    sent: GeneratedObject, entity: Entity = CUSTOMERS, initial: datetime = EPOCH
) -> Iterator[Record]:
    """What each line of one object comes to: `.csv` is of DMS, anything else of Debezium; none if it is unreadable."""
    if sent.unreadable:
        return
    name = sent.name.removesuffix(".gz")
    body = gzip.decompress(sent.body) if name != sent.name else sent.body
    lines = body.split(b"\n")[: -1 if body.endswith(b"\n") or not body else None]
    header: list[str] | None = None
    if name.endswith(".csv"):
        header = [column.strip(BLANKS).lower() for column in _csv_row(lines.pop(0))] if lines else []
    for ordinal, line in enumerate(lines, start=1):
        try:
            if header is None:
                yield _of_envelope(ordinal, line, entity, initial)
            else:
                yield Record(ordinal, _of_row(header, line, entity, initial))
        except RefusedRow as refusal:
            yield Record(ordinal, refused=str(refusal))


# --- DMS --------------------------------------------------------------------------------------------------------------


def _of_row(header: list[str], line: bytes, entity: Entity, initial: datetime) -> Event:
    """The event of one row. Without a column for the time it is of the full load."""
    if any(column not in header for column in entity.key):
        raise RefusedRow("missing_key_column")
    fields = _csv_row(line)
    if len(fields) != len(header):
        raise RefusedRow("too_few_fields" if len(fields) < len(header) else "too_many_fields")
    if [field.strip(BLANKS).lower() for field in fields] == header:
        raise RefusedRow("repeated_header")
    row = {column: field.strip(BLANKS) or None for column, field in zip(header, fields, strict=True)}
    op = {None: "upsert", "I": "upsert", "U": "upsert", "D": "delete"}.get(row.get("op"))
    if op is None:
        raise RefusedRow("unknown_op")
    event_time = instant(row[TIME] or "") if TIME in row else initial
    if event_time is None:
        raise RefusedRow("unreadable_time")
    position: Position | None = None
    if row.get("source_position"):
        stated = number(row["source_position"] or "")
        if stated is None:
            raise RefusedRow("unreadable_position")
        position = (stated,)
    return Event(_key(row, entity), event_time, op, _values(row, entity) if op == "upsert" else {}, position)


def _csv_row(line: bytes) -> list[str]:
    text = _decoded(line)
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        raise RefusedRow("open_quote") from None


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise RefusedRow("not_utf8") from None


# --- Debezium ---------------------------------------------------------------------------------------------------------


def _of_envelope(ordinal: int, line: bytes, entity: Entity, initial: datetime) -> Record:
    """What a bare or wrapped envelope says, or null."""
    try:
        stated = json.loads(_decoded(line), parse_float=str)
    except json.JSONDecodeError:
        raise RefusedRow("broken_json") from None
    if isinstance(stated, dict) and "payload" in stated:
        stated = stated["payload"]
    if stated is None:
        return Record(ordinal)
    op = stated.get("op")
    if op not in ("r", "c", "u", "d", "t"):
        raise RefusedRow("unknown_op")
    source = stated.get("source") or {}
    event_time = _time(source)
    if event_time is None:
        event_time = initial if op == "r" else _time(stated)
    if event_time is None:
        raise RefusedRow("unreadable_time")
    if op == "t":
        return Record(ordinal, truncate=Snapshot(event_time, frozenset(), truncate=True, position=_position(source)))
    image = stated.get("before" if op == "d" else "after") or {}
    row = {column: _text(value) for column, value in image.items() if column != "signup_date"}
    key = _key(row, entity)
    if op == "d":
        return Record(ordinal, Event(key, event_time, "delete", {}, _position(source)))
    signup = image.get("signup_date")
    try:
        row["signup_date"] = _days(signup) if isinstance(signup, int) else _text(signup)
        return Record(ordinal, Event(key, event_time, "upsert", _values(row, entity), _position(source)))
    except RefusedRow as refusal:
        return Record(ordinal, refused=str(refusal), had=(key, event_time))


def _time(stated: Mapping[str, Any]) -> datetime | None:
    """The time in the finest unit that is stated, cut to microseconds; None where none is."""
    unit = next((unit for unit in ("ts_ns", "ts_us", "ts_ms") if stated.get(unit) is not None), None)
    if unit is None:
        return None
    value = stated[unit]
    if not isinstance(value, int):
        raise RefusedRow("unreadable_time")
    microseconds = {"ts_ns": value // 1000, "ts_us": value, "ts_ms": value * 1000}[unit]
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise RefusedRow("unreadable_time") from None


def _position(source: Mapping[str, Any]) -> Position | None:
    """The LSN, or the binlog's number, the position in it and the row of its statement."""
    if source.get("lsn") is not None:
        return (Decimal(source["lsn"]),)
    if source.get("file") is not None:
        file = _BINLOG.fullmatch(source["file"])
        if not file:
            raise RefusedRow("unreadable_position")
        return Decimal(file[1]), Decimal(source["pos"]), Decimal(source["row"])
    return None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None if value is None else str(value).lower()
    return str(value).strip(BLANKS) or None


def _days(days: int) -> str:
    """A date that is stated as the days since 1970."""
    try:
        return (EPOCH.date() + timedelta(days=days)).isoformat()
    except OverflowError:
        raise RefusedRow("unreadable_date") from None


# --- both -------------------------------------------------------------------------------------------------------------


def _key(row: Mapping[str, str | None], entity: Entity) -> tuple[str, ...]:
    key = tuple(row.get(column) or "" for column in entity.key)
    if "" in key:
        raise RefusedRow("blank_key")
    return key


def _values(row: Mapping[str, str | None], entity: Entity) -> dict[str, str | None]:
    values = {column: row.get(column) for column in entity.attributes}
    if values.get("signup_date") is not None:
        values["signup_date"] = day(values["signup_date"] or "")
        if values["signup_date"] is None:
            raise RefusedRow("unreadable_date")
    return values
