"""Random streams of change events, and a way to lay them into staging as objects of any batch.

A stream is a key; hundreds of them share a run. What stands in staging is remembered as events of the oracle, so that
at any moment the tables can be held against `generator.truth`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from c360_assets import registers
from c360_assets.warehouse import Session, insert
from generator.truth import CUSTOMERS, Entity, Event, Truth, fold
from tests.parts import Platform, Row

EPOCH = datetime(2024, 1, 1)
CITIES = ("Rome", "Oslo", "Bonn", None)
PHONES = ("1", "2", None)
DAYS = ("2020-02-03", None)


@dataclass
class Laid:
    """One object version in staging and the events it holds."""

    key: str
    etag: str
    events: list[Event]
    known_at: datetime
    superseded: bool = False


@dataclass
class Stage:
    """Staging of a platform, written row by row as the loader would."""

    platform: Platform
    laid: list[Laid] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        with self.platform.warehouse.writing("test") as session:
            registers.prepare_tables(session, list(self.platform.feeds.values()))

    def lay(self, objects: Iterable[Sequence[Event]], *, replacing: Laid | None = None) -> list[Laid]:
        """A batch: each sequence of events is an object whose rows state their own time."""
        laid = []
        with self.platform.warehouse.writing("test") as session, session.transaction():
            batch, now = registers.next_batch(session)
            for events in objects:
                self.count += 1
                key = replacing.key if replacing else f"stream_data/customers/{self.count:05d}.csv"
                if replacing:
                    replacing.superseded = True
                    session.execute(
                        "update staging.object_ledger set status = 'superseded' where key = ? and status = 'loaded'",
                        [key],
                    )
                    session.execute("update staging.customers set _superseded_at = ? where _key = ?", [now, key])
                laid.append(Laid(key, f"etag-{self.count}", list(events), now))
                self._write(session, laid[-1], batch, now)
        self.laid += laid
        return laid

    def _write(self, session: Session, laid: Laid, batch: str, now: datetime) -> None:
        attributes = CUSTOMERS.attributes
        columns = [
            "customer_id",
            *attributes,
            "updated_at",
            "op",
            "source_position",
            "_key",
            "_etag",
            "_row",
            "_loaded_at",
            "_batch",
        ]
        rows: list[tuple[Any, ...]] = []
        for number, event in enumerate(laid.events, 1):
            image = [event.values.get(name) for name in attributes]
            op = "D" if event.op == "delete" else ("I", "U", None)[number % 3]
            rows.append((
                event.key[0], *image, as_text(event.event_time), op, position_text(event.position),
                laid.key, laid.etag, number, now, batch,
            ))  # fmt: skip
        insert(session, "staging.customers", dict.fromkeys(columns, ""), rows)
        insert(
            session, "staging.object_ledger", registers.LEDGER,
            [("customers", laid.key, laid.etag, 1, now, None, "loaded", batch, now)],
        )  # fmt: skip

    def truth(self) -> Truth:
        """What the events that stand must come to."""
        standing = (
            replace(e, known_at=laid.known_at) for laid in self.laid if not laid.superseded for e in laid.events
        )
        return fold(CUSTOMERS, (replace(e, values={}) if e.op == "delete" else e for e in standing))


def random_events(random: random.Random, key: str) -> list[Event]:
    """The copies of one key's events: few instants and few values, so that ties, no-ops and returns abound."""
    events = []
    instants = [EPOCH + timedelta(hours=random.randrange(8)) for _ in range(random.randint(1, 6))]
    for _ in range(random.randint(1, 9)):
        op = "delete" if random.random() < 0.2 else "upsert"
        values = {}
        if op == "upsert" or random.random() < 0.5:  # a delete with or without its row image
            values = {"city": random.choice(CITIES), "phone": random.choice(PHONES), "signup_date": random.choice(DAYS)}
        events.append(Event((key,), random.choice(instants), op, values, random_position(random)))
    for copy in random.sample(events, random.randint(0, min(3, len(events)))):
        events.append(replace(copy, position=random_position(random)) if random.random() < 0.5 else copy)
    return events


def random_position(random: random.Random) -> tuple[Decimal, ...] | None:
    shape = random.random()
    if shape < 0.4:
        return None
    if shape < 0.8:
        return (Decimal(random.choice((1, 2, 9, 10, 11))),)
    if shape < 0.9:
        return (Decimal(random.choice(("1.5", "10.25", "9.0"))),)
    return (Decimal(random.choice((1, 9, 10))), Decimal(random.choice((2, 10))))


def as_text(instant: datetime) -> str:
    return instant.isoformat() + "Z"


def position_text(position: tuple[Decimal, ...] | None) -> str | None:
    return None if position is None else ":".join(str(member) for member in position)


def expected(rows: list[dict[str, Any]]) -> set[Row]:
    return {tuple(sorted((name, _plain(value)) for name, value in row.items())) for row in rows}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        return value.isoformat()
    return value


def assert_equals_truth(platform: Platform, truth: Truth, entity: Entity = CUSTOMERS, name: str = "customer") -> None:
    """Current, history, ties and the events of the log are what the oracle says, row for row."""
    for table, rows in ((name, truth.current), (f"{name}_history", truth.history), (f"{name}_ties", truth.ties)):
        found = platform.table(f"core.{table}")
        if table.endswith("_ties"):
            found = [row | {"losers": tuple(json.loads(row["losers"]))} for row in found]
            rows = [row | {"losers": tuple(row["losers"])} for row in rows]
        assert len(found) == len(rows), f"core.{table} has {len(found)} rows, the oracle {len(rows)}"
        surplus, missing = expected(found) - expected(rows), expected(rows) - expected(found)
        assert not surplus and not missing, (
            f"core.{table}: surplus {sorted(map(str, surplus))[:3]}, missing {sorted(map(str, missing))[:3]}"
        )
    identity = (*entity.key, "event_time", "op", "content")
    log = {tuple(row[c] for c in identity): row for row in platform.table(f"core.{name}_log")}
    told = {tuple(row[c] for c in identity): row for row in truth.log}
    assert log.keys() == told.keys(), f"core.{name}_log holds other events than the oracle's"
    # Positions are text that sorts as the numbers do: the same rank, and none where there is none.
    ranks = [_ranks(row["position"] for row in rows.values()) for rows in (log, told)]
    for event, row in told.items():
        found = [rank.get(of[event]["position"]) for rank, of in zip(ranks, (log, told), strict=True)]
        assert found[0] == found[1], f"core.{name}_log: the position of {event} is {log[event]['position']}"
        # Of what follows from absence the oracle does not say when it was known.
        known = row["op"] == "delete" or row["known_at"] in (None, log[event]["known_at"])
        assert known, f"core.{name}_log: {event} was known at {log[event]['known_at']}, not {row['known_at']}"


def _ranks(positions: Iterable[Any]) -> dict[Any, int]:
    return {at: rank for rank, at in enumerate(sorted({position for position in positions if position is not None}))}
