"""History: one key's life, read from the tables: its versions as a time line, and why each of them is there.

Belongs here: questions about single keys, at two times. What holds when is decided in dbt; here it is told in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from c360_assets.entities import Declaration
from c360_assets.warehouse import Session

Row = dict[str, Any]
NOBODY = "deleted"


class NoSuchKey(LookupError):
    """There is nothing of the key; the text says where was looked."""


@dataclass(frozen=True)
class Span:
    """What held from one instant to another: a version, or nothing. `changes` says what became of what."""

    valid_from: datetime
    valid_to: datetime | None
    change: str
    changes: str
    values: Mapping[str, Any] | None


def life(session: Session, entity: Declaration, key: Sequence[str], known_at: datetime | None) -> list[Span]:
    """The time line of one key, deleted stretches included; as it was believed at `known_at`, or is now."""
    table = (
        session.called(f"core.{entity.name}_history_as_of", [known_at]) if known_at else f"core.{entity.name}_history"
    )
    versions = _rows(session, f"select * from {table} where {_is(entity)} order by valid_from", key)
    spans: list[Span] = []
    before: Row | None = None
    for version in versions:
        if before is not None and before["ended_by"] == "delete":
            spans.append(Span(before["valid_to"], version["valid_from"], NOBODY, "", None))
            before = None
        values = {name: version[name] for name in entity.attributes}
        told = _differences(before, values) if before else _values(values)
        spans.append(Span(version["valid_from"], version["valid_to"], version["change_type"], told, values))
        before = version
    if before is not None and before["ended_by"] == "delete":
        spans.append(Span(before["valid_to"], None, NOBODY, "", None))
    return spans


def at(spans: Sequence[Span], instant: datetime) -> Span | None:
    """What held at the instant; None before there was anything."""
    return next((s for s in spans if s.valid_from <= instant and (s.valid_to is None or instant < s.valid_to)), None)


def explain(session: Session, entity: Declaration, key: Sequence[str]) -> list[Row]:
    """Every event of one key in the order in which they apply, with what it did and why.

    Then what counts no more or not yet: events that nothing states any more, deletes that wait for a person, refusals.
    Columns: event_time, op, effect, notes, known_at, feed, object, row.
    """
    events = _rows(
        session,
        f"select * from core.{entity.name}_log where {_is(entity)} "
        "order by event_time, position nulls first, op desc, content",
        key,
    )
    copies = _copies(session, entity, key)
    told = list(_told(entity, events, copies))
    told += _taken_back(events, copies)
    told += _held(session, entity, key)
    refused = _rows(
        session,
        f"""
        select _feed, _key, _row, known_at, event_time, op, reasons, raw
        from clean.{entity.name}_rows
        where reasons <> '[]' and {_is(entity)}
        order by _batch, _key, _row
        """,
        key,
    )
    for row in refused:
        reasons = ", ".join(json.loads(row["reasons"]))
        told.append(_line(row, "refused", f"{reasons}: {row['raw']}"))
    if not told:
        names = ", ".join(f"{name} {value!r}" for name, value in zip(entity.key, key, strict=True))
        raise NoSuchKey(f"no event and no refused row of {entity.name} has {names}")
    return told


def _told(entity: Declaration, events: Sequence[Row], copies: Mapping[tuple[Any, ...], list[Row]]) -> Iterator[Row]:
    state: Row | None = None
    winners = {row["event_time"]: row for row in events}  # the last of an instant stands
    for row in events:
        winner = winners[row["event_time"]]
        notes = [*_late(row, events), *_copied(copies.get(_identity(row), []))]
        values = {name: row[name] for name in entity.attributes}
        if row.get("given") is not None:
            given = [n for n, mark in zip(entity.attributes, row["given"], strict=True) if mark == "1"]
            notes.append(f"gave only {', '.join(given) or 'nothing'}; the rest is from the state before")
        if row is not winner:
            yield _line(row, "suppressed", "; ".join([_why_lost(row, winner), *notes]))
            continue
        if row["op"] == "delete":
            effect = "ended the version" if state else "no effect"
            if not state:
                notes.insert(0, "there was nothing to delete")
            if row["_row"] == 0:
                notes.insert(0, "no row says so: the snapshot lacks the key, or the source was truncated")
            state = None
        elif row["version_from"] == row["event_time"]:
            effect = "opened a version"
            notes.insert(0, _differences(state, values) if state else _values(values))
            state = values
        else:
            changes = _differences(state or {}, values)
            effect = "corrected the version" if changes else "no new version"
            notes.insert(0, changes or "says what held already")
            state = values
        yield _line(row, effect, "; ".join(note for note in notes if note))


def _why_lost(row: Row, winner: Row) -> str:
    if (row["position"] or "") != (winner["position"] or ""):
        return "another event of the same instant comes after it by its position"
    if winner["op"] == "delete" and row["op"] != "delete":
        return "a delete of the same instant and position beats it"
    return "another event of the same instant and position beats it by its content; the source does not order them"


def _late(row: Row, events: Sequence[Row]) -> Iterator[str]:
    """Was something that happened later known earlier?"""
    known = [e["known_at"] for e in events if e["event_time"] > row["event_time"] and e["known_at"] < row["known_at"]]
    if known:
        yield f"came late, {_span(row['known_at'] - min(known))} after a later event was known"


def _copied(copies: Sequence[Row]) -> Iterator[str]:
    standing = [c for c in copies if c["_retracted_by"] is None]
    if len(standing) > 1:
        others = sorted({f"{c['_key'].rsplit('/', 1)[-1]} row {c['_row']}" for c in standing[1:]})
        yield f"stated {len(standing)} times, also by {', '.join(others[:3])}{' and others' if len(others) > 3 else ''}"
    taken_back = len(copies) - len(standing)
    if taken_back:
        yield f"{taken_back} copies were taken back with the object that held them"


def _taken_back(events: Sequence[Row], copies: Mapping[tuple[Any, ...], list[Row]]) -> Iterator[Row]:
    """Events whose every copy was in an object that was replaced."""
    there = {_identity(row) for row in events}
    for identity in sorted(copies.keys() - there):
        notes = "its object was replaced, and nothing says so any more"
        if len(copies[identity]) > 1:
            notes = f"each of the {len(copies[identity])} objects that said so was replaced"
        yield _line(copies[identity][0], "taken back", notes)


def _held(session: Session, entity: Declaration, key: Sequence[str]) -> Iterator[Row]:
    """Deletes that snapshots imply whose guard holds them."""
    seen = f"select 1 from clean.{entity.name}_rows where {_is(entity)} and _feed = held.feed and event_time"
    for row in _rows(
        session,
        f"""
        select feed as _feed, event_time, _key, count_missing, count_before
        from clean.{entity.name}_snapshots as held
        where verdict = 'held'
            and exists ({seen} < held.event_time)
            and not exists ({seen} = held.event_time)
        order by event_time, feed
        """,
        [*key, *key],
    ):
        share = f"{row['count_missing']} of {row['count_before']} keys"
        notes = f"the snapshot lacks the key, but {share} as well: it deletes when a person releases it"
        yield _line(row | {"op": "delete", "known_at": None, "_row": 0}, "held back", notes)


def _copies(session: Session, entity: Declaration, key: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    rows = _rows(
        session,
        f"""
        select event_time, op, content, known_at, _feed, _key, _row, _retracted_by
        from clean.{entity.name}_copies
        where {_is(entity)}
        order by _batch, _key, _row, _etag
        """,
        key,
    )
    for row in rows:
        found.setdefault(_identity(row), []).append(row)
    return found


def _identity(row: Row) -> tuple[Any, ...]:
    return row["event_time"], row["op"], row["content"]


def _line(row: Row, effect: str, notes: str) -> Row:
    return {
        "event_time": row["event_time"],
        "op": row["op"],
        "effect": effect,
        "notes": notes,
        "known_at": row["known_at"],
        "feed": row["_feed"],
        "object": row["_key"],
        "row": row["_row"] or None,
    }


def _differences(before: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}: {_shown(before.get(name))} to {_shown(value)}"
        for name, value in values.items()
        if before.get(name) != value
    )


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {_shown(value)}" for name, value in values.items() if value is not None)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _span(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds" if seconds else f"{length.microseconds} microseconds"


def _is(entity: Declaration) -> str:
    return " and ".join(f"{name} = ?" for name in entity.key)


def _rows(session: Session, sql: str, key: Sequence[str]) -> list[Row]:
    names, rows = session.result(sql, list(key))
    return [dict(zip(names, row, strict=True)) for row in rows]
