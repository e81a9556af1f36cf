"""Clicks: what visitors do on the shop's pages, as JSON lines by the hour or one after another as they happen.

A visitor has a session id, looks around, logs in at some time or never, and may come back after a silence. Equal specs
give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from generator.faults import FileFaults, deliver, fault_share, plan_files
from generator.objects import GeneratedObject, Run

Event = dict[str, Any]
_PAGES = ("/", "/search", "/sale", "/account", "/help")
_DEVICES = ("mobile", "desktop", "tablet")
_OPEN_VISITS = 40


@dataclass(frozen=True)
class ClickFaults(FileFaults):
    """The share, from 0 to 1, of the files or events that each fault befalls."""

    late_events: float = fault_share("events that come with one of the next five files")
    repeated: float = fault_share("events that come again, as they were, with this file or one of the next five")
    corrected: float = fault_share("events that come again with one of the next five files and another amount or page")
    unidentified: float = fault_share("events without an id")
    bad_events: float = fault_share("events without type or readable time, or of a negative or unreadable amount")
    broken: float = fault_share("events cut within their file")
    unknown_products: float = fault_share("events that name a product which no file names")


CLICK_MIX = ClickFaults(
    late=0.05, duplicate_files=0.05, renamed_files=0.05, late_events=0.02, repeated=0.02, corrected=0.005,
    unidentified=0.05, bad_events=0.01, broken=0.002, unknown_products=0.01,
)  # fmt: skip
"""Some of everything, at shares that bad but real pages show."""


@dataclass(frozen=True)
class ClickSpec(Run):
    """A run of which each file has `events_per_file` events of its interval.

    `customers` and `products` are numbered as those of the shop are: CUST_00001 and PROD_00001 and on.
    """

    customers: int = 1_000
    products: int = 200
    events_per_file: int = 500
    faults: ClickFaults = field(default_factory=ClickFaults)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least_one("customers", "products", "events_per_file")


@dataclass
class _Visit:
    session: str
    device: str
    customer: str | None
    step: str = "page_view"
    product: str | None = None


class Visitors:
    """The people on the pages. `next_event` is what one of them does at an instant."""

    def __init__(self, customers: int, products: int, seed: int | str, unknown_products: float = 0.0) -> None:
        self._customers, self._products, self._unknown = customers, products, unknown_products
        self._random = Random(f"visitors {seed}")
        self._open: list[_Visit] = []
        self._left: list[_Visit] = []

    def next_event(self, at: datetime) -> Event:
        """One event, its fields in the order of FEEDS; what does not apply is null."""
        random = self._random
        if (len(self._open) < _OPEN_VISITS and random.random() < 0.3) or not self._open:
            self._open.append(self._arrival())
        visit = random.choice(self._open)
        if visit.customer is None and random.random() < 0.15:
            visit.customer = self._customer()
        event = self._step(visit, at)
        if visit.step == "page_view" and random.random() < 0.2:
            self._open.remove(visit)
            self._left.append(visit)
        return event

    def _arrival(self) -> _Visit:
        random = self._random
        if self._left and random.random() < 0.3:
            back = self._left.pop(random.randrange(len(self._left)))
            # Still known, logged out, or somebody else in front of the same screen.
            who = random.choice((back.customer, back.customer, None, self._customer() if back.customer else None))
            return replace(back, customer=who, step="page_view", product=None)
        device = random.choice(_DEVICES)
        return _Visit(f"{random.getrandbits(64):016x}", device, self._customer() if random.random() < 0.2 else None)

    def _customer(self) -> str:
        return f"CUST_{self._random.randint(1, self._customers):05d}"

    def _product(self) -> str:
        known = self._random.random() >= self._unknown
        return f"PROD_{self._random.randint(1, self._products):05d}" if known else f"P-{self._random.randint(1, 9)}"

    def _step(self, visit: _Visit, at: datetime) -> Event:
        random, step = self._random, visit.step
        if step == "page_view" and random.random() < 0.6:
            visit.product = self._product()
        page = f"/product/{visit.product}" if visit.product else random.choice(_PAGES)
        amount = f"{random.randint(100, 20_000) / 100:.2f}" if step == "purchase" else None
        after = {
            "page_view": ("page_view", "click") if visit.product else ("page_view",),
            "click": ("page_view", "click", "add_to_cart"),
            "add_to_cart": ("page_view", "purchase"),
            "purchase": ("page_view",),
        }
        event = {
            "event_id": f"{random.getrandbits(96):024x}",
            "event_type": step,
            "customer_id": visit.customer,
            "session_id": visit.session if random.random() < 0.98 else None,
            "product_id": visit.product if step != "page_view" or random.random() < 0.9 else None,
            "amount": amount,
            "page_url": page,
            "device_type": visit.device,
            "timestamp": f"{at.isoformat(timespec='milliseconds')}Z",
        }
        visit.step = random.choice(after[step])
        if visit.step == "page_view":
            visit.product = None
        return event


def line_of(event: Event) -> bytes:
    """One JSON object; an amount is a number in it, exact."""
    text = json.dumps(event | ({"amount": "#"} if event.get("amount") else {}), separators=(",", ":"))
    return text.replace('"amount":"#"', f'"amount":{event.get("amount")}').encode()


def generate(spec: ClickSpec) -> Iterator[GeneratedObject]:
    """The objects of a run in the order of sending, each with the events of which nothing must be taken."""
    plan = plan_files(spec.faults, spec.files, spec.seed, 0.0, ("none",))
    files = ((file, file.name.replace(".json", "_copy.json")) for file in _files(spec))
    yield from deliver(files, plan, Random(f"deliver {spec.seed}"))


def _files(spec: ClickSpec) -> Iterator[GeneratedObject]:
    visitors = Visitors(spec.customers, spec.products, spec.seed, spec.faults.unknown_products)
    random = Random(f"faults {spec.seed}")
    later: dict[int, list[Event]] = {}
    for number in range(spec.files):
        moments = sorted(random.random() for _ in range(spec.events_per_file))
        own = [visitors.next_event(spec.instant(number) + timedelta(seconds=m * spec.interval)) for m in moments]
        sent = later.pop(number, [])
        for event in own:
            if random.random() < spec.faults.unidentified:
                event["event_id"] = None
            sent += _sendings(event, number, spec, random, later)
        yield _file(spec, number, sent, random)


def _sendings(event: Event, number: int, spec: ClickSpec, random: Random, later: dict[int, list[Event]]) -> list[Event]:
    """What this file has of an event; the rest is put off. Nothing is put off beyond the last file."""
    faults = spec.faults

    def put_off(what: Event, least: int) -> list[Event]:
        at = number + random.randint(least, 5)
        if at <= number or at >= spec.files:
            return [what]
        later.setdefault(at, []).append(what)
        return []

    now = put_off(event, 1) if random.random() < faults.late_events else [event]
    if random.random() < faults.repeated:
        now += put_off(dict(event), 0)
    if event["event_id"] and random.random() < faults.corrected and number + 5 < spec.files:
        put_off(event | {"page_url": "/corrected", "amount": "9.99" if event["amount"] else None}, 1)
    return now


def _file(spec: ClickSpec, number: int, events: list[Event], random: Random) -> GeneratedObject:
    lines: list[bytes] = []
    refused: dict[int, str] = {}
    for ordinal, event in enumerate(events, 1):
        told, reason = event, None
        if random.random() < spec.faults.bad_events:
            told, reason = _bad(event, random)
        line = line_of(told)
        # One cut after another would be one stretch that nobody can tell apart.
        if reason is None and refused.get(ordinal - 1) != "broken" and random.random() < spec.faults.broken:
            line, reason = line[: len(line) // 2], "broken"
        if reason:
            refused[ordinal] = reason
        lines.append(line + b"\n")
    at = spec.instant(number)
    return GeneratedObject(f"clickstream/clicks_{at:%Y%m%dT%H%M%S}.json", b"".join(lines), 0, at, refused)


def _bad(event: Event, random: Random) -> tuple[Event, str]:
    kind = random.choice(("no_type", "no_time", "bad_time", "bad_amount", "negative_amount"))
    broken: dict[str, Event] = {
        "no_type": {"event_type": random.choice((None, " "))},
        "no_time": {"timestamp": None},
        "bad_time": {"timestamp": random.choice(("soon", "2026-02-30T10:00:00Z", "1772359200"))},
        "bad_amount": {"amount": '"much"'},
        "negative_amount": {"amount": "-1.00"},
    }
    return event | broken[kind], kind
