"""What the files of clicks mean, in plain Python: the oracle of clicks, sessions and minutes.

Favours being obviously right over being fast, and shares no code with the SQL that it judges.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from generator.objects import GeneratedObject
from generator.values import BLANKS, instant, number

SILENCE = timedelta(minutes=30)
FIELDS = ("event_type", "customer_id", "session_id", "product_id", "page_url", "device_type")
Row = dict[str, Any]


@dataclass(frozen=True)
class ClickTruth:
    """Tables as lists of rows, and how many records were received, accepted, refused and there before."""

    clicks: list[Row]
    sessions: list[Row]
    minutes: list[Row]
    customers: list[Row]
    received: int
    accepted: int
    refused: int
    duplicates: int


def click_truth(objects: Iterable[GeneratedObject], modified: Mapping[str, datetime]) -> ClickTruth:
    """
    What all objects together come to. `modified`: {name: when S3 had it first}; the newest object that has a click
    wins, within it the last record.
    """
    received = refused = 0
    copies: dict[Any, list[tuple[datetime, str, int, Row]]] = defaultdict(list)
    for name, body in {each.name: each.body for each in objects}.items():
        for ordinal, line in enumerate(body.splitlines(), 1):
            received += 1
            click = _click(line)
            if click is None:
                refused += 1
                continue
            told = tuple(sorted((column, str(value)) for column, value in click.items() if column != "event_id"))
            copies[click["event_id"] or told].append((modified[name], name, ordinal, click))
    accepted = sum(len({repr(sorted(c[3].items(), key=str)) for c in same}) for same in copies.values())
    clicks = [max(same, key=lambda copy: copy[:3])[3] for same in copies.values()]
    sessions = _sessions(clicks)
    return ClickTruth(
        clicks, sessions, _minutes(clicks), _customers(sessions),
        received, accepted, refused, received - refused - accepted,
    )  # fmt: skip


def _click(line: bytes) -> Row | None:
    """None where nothing can be taken."""
    try:
        stated = json.loads(line, parse_float=str, parse_int=str)
    except ValueError:
        return None
    texts = {name: str(value).strip(BLANKS) or None for name, value in stated.items() if value is not None}
    at = instant(texts.get("timestamp") or "")
    amount = number(texts.get("amount") or "")
    if not texts.get("event_type") or at is None or (texts.get("amount") and amount is None) or (amount or 0) < 0:
        return None
    return {"event_id": texts.get("event_id"), **{f: texts.get(f) for f in FIELDS}, "amount": amount, "happened_at": at}


def _sessions(clicks: list[Row]) -> list[Row]:
    of: dict[str, list[Row]] = defaultdict(list)
    for click in clicks:
        if click["session_id"] or click["customer_id"]:
            session, customer = click["session_id"], click["customer_id"]
            of[f"session:{session}" if session else f"customer:{customer}"].append(click)
    found = []
    for visitor, mine in of.items():
        mine.sort(key=lambda c: c["happened_at"])
        visits: list[list[Row]] = []
        for click in mine:
            if visits and click["happened_at"] - visits[-1][-1]["happened_at"] < SILENCE:
                visits[-1].append(click)
            else:
                visits.append([click])
        everybody = {click["customer_id"] for click in mine} - {None}
        parts: list[tuple[str | None, list[Row]]] = []
        for visit in visits:
            parts += _parts(visit, next(iter(everybody)) if len(everybody) == 1 else None)
        for place, (who, part) in enumerate(parts, 1):
            found.append(_session(visitor, place, who, part))
    return found


def _parts(visit: list[Row], only: str | None) -> list[tuple[str | None, list[Row]]]:
    """A visit, cut where another customer logs in."""
    who = next((click["customer_id"] for click in visit if click["customer_id"]), only)
    parts: list[tuple[str | None, list[Row]]] = [(who, [])]
    for click in visit:
        if click["customer_id"] and click["customer_id"] != parts[-1][0]:
            parts.append((click["customer_id"], []))
        parts[-1][1].append(click)
    return parts


def _session(visitor: str, place: int, who: str | None, clicks: list[Row]) -> Row:
    kinds = [click["event_type"] for click in clicks]
    stated = [click["customer_id"] for click in clicks]
    known = "nobody" if who is None else "other visits" if not any(stated) else "stated" if stated[0] else "later login"
    return {
        "visitor": visitor,
        "session_number": place,
        "customer_id": who,
        "known_by": known,
        "started_at": clicks[0]["happened_at"],
        "ended_at": clicks[-1]["happened_at"],
        "count_events": len(clicks),
        "count_page_views": kinds.count("page_view"),
        "count_clicks": kinds.count("click"),
        "count_carts": kinds.count("add_to_cart"),
        "count_purchases": kinds.count("purchase"),
        "revenue": _revenue(clicks),
        "landing_page": clicks[0]["page_url"],
        "device_type": clicks[0]["device_type"],
    }


def _minutes(clicks: list[Row]) -> list[Row]:
    of: dict[tuple[datetime, str], list[Row]] = defaultdict(list)
    for click in clicks:
        of[click["happened_at"].replace(second=0, microsecond=0), click["event_type"]].append(click)
    return [
        {
            "happened_minute": minute,
            "event_type": kind,
            "count_events": len(mine),
            "count_customers": len({click["customer_id"] for click in mine} - {None}),
            "count_sessions": len({click["session_id"] for click in mine} - {None}),
            "count_purchases": len(mine) if kind == "purchase" else 0,
            "revenue": _revenue(mine),
        }
        for (minute, kind), mine in of.items()
    ]


def _customers(sessions: list[Row]) -> list[Row]:
    of: dict[str, list[Row]] = defaultdict(list)
    for session in sessions:
        if session["customer_id"]:
            of[session["customer_id"]].append(session)
    return [
        {
            "customer_id": customer,
            "count_sessions": len(mine),
            "count_page_views": sum(s["count_page_views"] for s in mine),
            "count_carts": sum(s["count_carts"] for s in mine),
            "count_click_purchases": sum(s["count_purchases"] for s in mine),
            "last_click_at": max(s["ended_at"] for s in mine),
        }
        for customer, mine in of.items()
    ]


def _revenue(clicks: list[Row]) -> Decimal:
    return sum((c["amount"] or Decimal(0) for c in clicks if c["event_type"] == "purchase"), Decimal(0))
