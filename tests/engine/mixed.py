"""An entity that everything feeds at once: upserts, partial updates, snapshots, change events in envelopes.

Composite key, a typed tracked column, a type 1 column. Beside it lives a twin that no feed gives partially. Objects are laid into staging as the loader would leave them; what
stands is remembered as events of the oracle, so that at any moment the tables can be held against it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from c360_assets import entities, registers
from c360_assets.warehouse import insert
from generator.snapshots import Snapshot, implied_deletes
from generator.truth import Entity, Event, Truth, fold
from tests.engine.streams import EPOCH, as_text, position_text, random_position
from tests.parts import Platform, project_with

GUARD = 0.4
PROBE = Entity(key=("k1", "k2"), tracked=("t1", "t2"), type1=("o1",))
EVERY = Entity(key=PROBE.key, tracked=PROBE.tracked, type1=PROBE.type1, type1_every_version=True)
ATTRIBUTES = ("o1", "t1", "t2")
UNAVAILABLE = "__debezium_unavailable_value"
PARTS = ("_rows", "_absences", "_snapshots", "_copies", "_events", "_accepted", "_log", "", "_ties", "_history")


def models_of(name: str) -> tuple[str, ...]:
    """What a rebuilt, an incremental and an as-of history are made of, without the other entities and the tills."""
    return ("--exclude-resource-type", "test", "--select", "superseded_objects", *(name + part for part in PARTS))


MODELS = models_of("probe")
CHECKED = ("--indirect-selection", "cautious", *MODELS[2:])

_FEED = """
sources:
  - name: staging
    schema: staging
    tables:
"""
_TABLE = """
      - name: {name}
        columns: [{columns}]
        config: {{meta: {{feed: {{prefix: {name}/, formats: [{format}], entity: probe, {rest}}}}}}}
"""
_FEEDS = {
    "probe_changes": "kind: upsert, event_time: {column: happened}, position: {column: pos}, operation: {column: op, upsert: [U], delete: [D]}",
    "probe_parts": "kind: partial, event_time: {column: happened}, position: {column: pos}, operation: {column: op, upsert: [U], delete: [D]}",
    "probe_days": f"kind: snapshot, guard: {GUARD}, event_time: {{name: 'day_(\\d{{14}})'}}",
    "probe_stream": "kind: events, event_time: {initial: '1970-01-01T00:00:00Z'}",
}  # fmt: skip


def mixed_project(folder: Path, *, every_version: bool = False, twin: bool = False) -> Path:
    """A project with this entity and no other but its twin, made by their declarations alone."""
    feeds = _FEED
    for feed, rest in _FEEDS.items():
        columns = ["payload"] if feed == "probe_stream" else ["k1", "k2", *ATTRIBUTES, "happened", "pos", "op"]
        columns = columns[:5] if feed == "probe_days" else columns
        declared = ", ".join(f"{{name: {c}, data_type: varchar}}" for c in columns)
        table = _TABLE.format(
            name=feed, columns=declared, format="json" if feed == "probe_stream" else "csv", rest=rest
        )
        feeds += table
        if twin and feed != "probe_parts":
            feeds += table.replace("probe", "twin")
    project = project_with(folder, {"models/staging/probe.yml": feeds})
    kept = ("groups.yml", "staging/probe.yml", "staging/ledger.yml", "clean/superseded_objects.sql")
    for path in (project / "models").rglob("*"):
        if path.is_file() and path.relative_to(project / "models").as_posix() not in kept:
            path.unlink()
    for name in ("probe", "twin") if twin else ("probe",):
        declared = entities.Declaration(name, PROBE.key, (("t1", "varchar"), ("t2", "date")), (("o1", "varchar"),))
        entities.write(declared, project)
    if every_version:
        log = project / "models" / "core" / "probe.yml"
        log.write_text(log.read_text().replace("type1: [o1]", "type1: [o1]\n          type1_every_version: true"))
    return project


@dataclass
class Laid:
    """One object version in staging and what it states."""

    feed: str
    key: str
    etag: str
    instant: datetime | None
    rows: list[Any]
    known_at: datetime
    superseded: bool = False
    released: bool = False
    dismissed: bool = False
    status: str = "loaded"


@dataclass
class Mixed:
    """Staging of a platform with the entity."""

    platform: Platform
    entity: Entity = PROBE
    name: str = "probe"
    laid: list[Laid] = field(default_factory=list)
    believed: list[tuple[datetime, list[dict[str, Any]]]] = field(default_factory=list)
    arrived: datetime | None = None

    def __post_init__(self) -> None:
        with self.platform.warehouse.writing("test") as session:
            registers.prepare_tables(session, list(self.platform.feeds.values()))

    def lay(self, objects: Iterable[tuple[str, datetime | None, list[Any]]], replacing: Laid | None = None) -> None:
        """A batch of objects: feed, the instant in its name (of snapshots), and what its rows state."""
        with self.platform.warehouse.writing("test") as session, session.transaction():
            batch, now = registers.next_batch(session)
            for feed, instant, rows in objects:
                number = len(self.laid)
                staged_feed = feed.replace("probe", self.name)
                key = replacing.key if replacing else f"stream_data/{staged_feed}/{number:05d}"
                if replacing:
                    replacing.superseded = True
                    session.execute(
                        "update staging.object_ledger set status = 'superseded' where key = ? and status = 'loaded'",
                        [key],
                    )
                    session.execute(f"update staging.{staged_feed} set _superseded_at = ? where _key = ?", [now, key])
                laid = Laid(feed, key, f"etag-{number}", instant, rows, now)
                self.laid.append(laid)
                staged = [(*_columns(feed, row), key, laid.etag, n, now, batch) for n, row in enumerate(rows, 1)]
                names = ["payload"] if feed == "probe_stream" else ["k1", "k2", *ATTRIBUTES, "happened", "pos", "op"]
                names = names[:5] if feed == "probe_days" else names
                columns = dict.fromkeys([*names, "_key", "_etag", "_row", "_loaded_at", "_batch"], "")
                insert(session, f"staging.{staged_feed}", columns, staged)
                insert(
                    session, "staging.object_ledger", registers.LEDGER,
                    [(staged_feed, key, laid.etag, 1, now, instant, "loaded", batch, now)],
                )  # fmt: skip
            self.arrived = now

    def lay_part(self, instant: datetime, status: str) -> Laid:
        """A file of a snapshot that is `unreadable`, or `empty`: without a byte."""
        number = len(self.laid)
        feed = f"{self.name}_days"
        with self.platform.warehouse.writing("test") as session, session.transaction():
            batch, now = registers.next_batch(session)
            laid = Laid(
                "probe_days", f"stream_data/{feed}/{number:05d}", f"etag-{number}", instant, [], now, status=status
            )
            ledger = [(feed, laid.key, laid.etag, 1, now, instant, status, batch, now)]
            insert(session, "staging.object_ledger", registers.LEDGER, ledger)
            if status == "unreadable":
                refused = [(feed, laid.key, laid.etag, 0, "", '["not_gzip"]', now, batch, None, None)]
                insert(session, "staging.refused_rows", registers.REFUSED, refused)
            self.laid.append(laid)
            self.arrived = now
        return laid

    def release(self, laid: Laid) -> None:
        laid.released = True
        self._decide(laid, "release", [0])

    def dismiss(self, laid: Laid) -> None:
        """What keeps it from being whole: the object that cannot be read, the records without a key."""
        laid.dismissed = True
        keyless = [n for n, row in enumerate(laid.rows, 1) if None in row["key"]]
        self._decide(laid, "dismiss", keyless if laid.status == "loaded" else [0])

    def _decide(self, laid: Laid, decision: str, rows: list[int]) -> None:
        with self.platform.warehouse.writing("test") as session, session.transaction():
            batch, now = registers.next_batch(session)
            feed = laid.feed.replace("probe", self.name)
            decided = [(feed, laid.key, laid.etag, row, decision, "", now, batch, None) for row in rows]
            insert(session, "staging.quarantine_decisions", registers.DECISIONS, decided)
            self.arrived = now

    def build(self, *arguments: str) -> None:
        self.platform.build(*(arguments or models_of(self.name)))

    def believe(self) -> None:
        """Remembers what the history says now, to ask for it later as of now."""
        assert self.arrived is not None
        self.believed.append((self.arrived, self.platform.table("core.probe_history")))

    def standing(self) -> list[Laid]:
        return [laid for laid in self.laid if not laid.superseded]

    def truth(self) -> Truth:
        """What the objects that stand must come to."""
        events: list[Event] = []
        snapshots: list[Snapshot] = []
        truncates: list[Snapshot] = []
        for laid in self.standing():
            stated = (_event(laid, n, row, fills=self.name == "probe") for n, row in enumerate(laid.rows, 1))
            events += [event for event in stated if event is not None]
            if laid.feed == "probe_days" and not (laid.status == "unreadable" and laid.dismissed):
                keys = [row["key"] for row in laid.rows]
                whole = {
                    "loaded": laid.dismissed or all(None not in k for k in keys),
                    "empty": laid.released,
                    "unreadable": False,
                }
                snapshots.append(
                    Snapshot(
                        laid.instant or EPOCH,
                        present=frozenset(k for k in keys if None not in k),
                        complete=whole[laid.status],
                        released=laid.released,
                    )
                )
            if laid.feed == "probe_stream":
                for row in laid.rows:
                    if row["op"] == "t":
                        truncates.append(Snapshot(row["at"], frozenset(), truncate=True, position=_read(laid, row)))
                    elif row["op"] in "rcud":
                        # What the stream had by then: a set that deletes nothing.
                        truncates.append(Snapshot(row["at"], frozenset([row["key"]]), complete=False))
        events += implied_deletes(snapshots, Decimal(str(GUARD)))
        events += implied_deletes(truncates, None)
        return fold(self.entity, events)


def _columns(feed: str, row: dict[str, Any]) -> tuple[Any, ...]:
    if feed == "probe_stream":
        return (_envelope(row),)
    values = [row["values"].get(name) for name in ATTRIBUTES]
    if feed == "probe_days":
        return (*row["key"], *values)
    return (*row["key"], *values, as_text(row["at"]), position_text(row["pos"]), row["op"])


def _envelope(row: dict[str, Any]) -> str:
    if row["op"] == "tombstone":
        return "null"
    values = {k: UNAVAILABLE if v is None and row["shape"] == 5 else _days(k, v) for k, v in row["values"].items()}
    image = dict(zip(PROBE.key, row["key"], strict=True)) | values
    micros = int((row["at"] - datetime(1970, 1, 1)) / timedelta(microseconds=1))
    source: dict[str, Any] = {"ts_us": micros} if row["shape"] % 2 else {"ts_ns": micros * 1000 + 7, "ts_ms": 5}
    if row["pos"] is not None:
        source |= (
            {"lsn": int(row["pos"][0])}
            if len(row["pos"]) == 1
            else {"file": f"bin.{row['pos'][0]}", "pos": int(row["pos"][1]), "row": 0}
        )
    document = {
        "before": image if row["op"] == "d" else None, "after": image if row["op"] in "rcu" else None,
        "source": source, "op": row["op"], "ts_ms": 1,
    }  # fmt: skip
    if row["op"] == "t":
        document |= {"before": None, "after": None}
    return json.dumps({"schema": {}, "payload": document} if row["shape"] % 3 == 0 else document)


def _days(column: str, value: str | None) -> Any:
    """Dates travel as days since 1970."""
    return (datetime.fromisoformat(value) - datetime(1970, 1, 1)).days if column == "t2" and value else value


def _event(laid: Laid, number: int, row: dict[str, Any], *, fills: bool) -> Event | None:
    """What the row states, if it can be taken; `fills`: may it leave something open?"""
    if None in row["key"] or row.get("bad") or row["op"] in ("t", "tombstone"):
        return None
    if laid.feed == "probe_days":
        position = (Decimal(number),)
        return Event(row["key"], laid.instant or EPOCH, "upsert", row["values"], position, known_at=laid.known_at)
    delete = row["op"] in ("D", "d")
    unavailable = laid.feed == "probe_stream" and not delete and row["shape"] == 5 and None in row["values"].values()
    if unavailable and not fills:
        return None
    return Event(
        row["key"], row["at"], "delete" if delete else "upsert", {} if delete else row["values"], _read(laid, row),
        partial=unavailable or laid.feed == "probe_parts", known_at=laid.known_at,
    )  # fmt: skip


def _read(laid: Laid, row: dict[str, Any]) -> Any:
    """The position that the row states, as it is read: of a binlog with the row of its statement."""
    position = row["pos"]
    return (*position, Decimal(0)) if laid.feed == "probe_stream" and position and len(position) == 2 else position


def as_on_snowflake(project: Path, *, strict: bool = True) -> Path:
    """The project with `greatest` and `least` as Snowflake has them: null where either is. Strict: it has to have both."""
    fold = project / "macros" / "scd2_fold.sql"
    text = fold.read_text()
    for function, sign in (("greatest", ">="), ("least", "<=")):
        text, count = re.subn(
            rf"{function}\((\w+), (\w+)\)",
            rf"case when \1 is null or \2 is null then null when \1 {sign} \2 then \1 else \2 end",
            text,
        )
        assert count or not strict, f"{fold} has no {function} any more"
    fold.write_text(text)
    return project


def with_colliding_hashes(project: Path) -> Path:
    """The project with three hashes for all keys, by which rows of the log are found."""
    dialect = project / "macros" / "dialect.sql"
    there, few = "hash({{ alias }}.{{ key | join(', ' ~ alias ~ '.') }})", "({} % 3)"
    text = dialect.read_text()
    assert there in text, f"{dialect} hashes keys in another way now"
    dialect.write_text(text.replace(there, few.format(there)))
    return project


# ---------------------------------------------------------------------------------------------------------- at random


def random_objects(
    chance: random.Random, keys: Sequence[tuple[str, str]], count: int, *, parts: bool = True
) -> list[tuple[str, datetime | None, list[Any]]]:
    """Objects of all four feeds, or without partial ones: few instants and few values, so that everything meets."""
    objects: list[tuple[str, datetime | None, list[Any]]] = []
    said: dict[str, list[Any]] = {}
    before = [list(keys)]
    for _ in range(count):
        feed = chance.choice(("probe_changes", "probe_parts", "probe_days", "probe_days", "probe_stream"))
        if feed == "probe_parts" and not parts:
            feed = "probe_changes"
        if feed == "probe_days":
            # Of all keys, or nearly those that some file before had, as is the way of snapshots.
            share, of = (
                (0.97, chance.choice(before)) if chance.random() < 0.4 else (chance.choice((0.95, 0.9, 0.3, 0.2)), keys)
            )
            before.append([key for key in of if chance.random() < share])
            rows = [_row(chance, key) for key in before[-1]]
            rows += [_row(chance, chance.choice(keys)) for _ in range(3)]
            if chance.random() < 0.2:
                rows[0]["values"]["t2"], rows[0]["bad"] = "no date", True  # its key can be read
            at = instant(chance)
            if chance.random() < 0.2:
                rows[-1]["key"] = (rows[-1]["key"][0], None)
                # A second file of that instant, with nothing amiss: the two are one set, which is incomplete.
                objects.append((feed, at, [_row(chance, key) for key in keys if chance.random() < share]))
            objects.append((feed, at, rows))
            continue
        rows = [_row(chance, chance.choice(keys), feed) for _ in range(len(keys) * 2 // 3)]
        # The same event again, in this object or a later one, with another position or none: the greatest counts. One that a
        # feed of whole rows says, a partial one may say, too.
        pool = feed if feed == "probe_stream" else "rows"
        again = chance.sample(rows, len(rows) // 8) + chance.sample(
            earlier := said.setdefault(pool, []), len(earlier) // 8
        )
        rows += [row | {"pos": _position(chance, feed)} for row in again]
        earlier += rows
        if feed == "probe_stream":
            if chance.random() < 0.3:
                rows.append(_row(chance, ("", ""), feed) | {"op": "t"})
            rows.append(_row(chance, ("", ""), feed) | {"op": "tombstone"})
        objects.append((feed, None, rows))
    if chance.random() < 0.7:
        # The source has shrunk, and stays so: if a person believes the first such file, the next is like it.
        of = list(keys)
        for hour, share in enumerate((0.9, 0.3, 0.97), 10):
            of = [key for key in of if chance.random() < share]
            objects.append(("probe_days", EPOCH + timedelta(hours=hour), [_row(chance, key) for key in of]))
    return objects


def _row(chance: random.Random, key: tuple[str, str], feed: str = "probe_days") -> dict[str, Any]:
    letters = "cud" if feed == "probe_stream" else "UUD"
    position = _position(chance, feed)
    values = {
        "o1": chance.choice(("x", "y", None)),
        "t1": chance.choice(("a", "b", None)),
        "t2": chance.choice(("2020-02-03", None)),
    }
    return {
        "key": key, "at": instant(chance), "pos": position, "op": letters[chance.randrange(3)] if feed != "probe_days" else "",
        "values": values, "shape": chance.randrange(6),
    }  # fmt: skip


def _position(chance: random.Random, feed: str) -> Any:
    position = random_position(chance)
    if feed == "probe_stream" and position is not None:
        return tuple(Decimal(int(member)) for member in position)
    return position


def instant(chance: random.Random) -> datetime:
    return EPOCH + timedelta(hours=chance.randrange(10))


def keys_of(number: int) -> list[tuple[str, str]]:
    return [(f"k{n // 7}", f"s{n % 7}") for n in range(number)]


def known(platform: Platform, at: datetime, valid: datetime | None = None) -> list[dict[str, Any]]:
    """The history as it was believed at an instant, or what of it held at another, by the table functions."""
    function = "probe_as_of" if valid else "probe_history_as_of"
    instants = ", ".join(f"timestamp '{i.isoformat(sep=' ')}'" for i in (valid, at) if i)
    with platform.warehouse.reading() as session:
        names, rows = session.result(f"select * from core.{function}({instants})")
        return [dict(zip(names, row, strict=True)) for row in rows]


def without(rows: list[Any], chance: random.Random) -> list[Any]:
    """Some of the rows of an object: what another version of it may hold."""
    return chance.sample(rows, len(rows) * 9 // 10)
