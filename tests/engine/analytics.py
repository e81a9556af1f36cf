"""What customers and baskets tell, worked out again in plain Python from the facts: the oracle of the tables of analytics."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import combinations
from statistics import median
from typing import Any

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Purchase:
    """One order, or one line of a receipt; `name` is what counts as one purchase, None for a refund."""

    customer: str
    currency: str
    day: date
    name: str | None
    net: Decimal


@dataclass(frozen=True)
class Sold:
    """One item of an order, or line of a receipt; `purchase` is what counts as one, None for a refund."""

    product: str | None
    at: datetime
    day: date
    currency: str
    purchase: str | None
    units: Decimal
    revenue: Decimal
    refunds: Decimal


@dataclass(frozen=True, order=True)
class Version:
    """From when to when something said so: `texts` are the lists of categories of a product, by id and by name, or the one name of a category."""

    begun: datetime
    ended: datetime | None
    texts: tuple[str | None, ...]

    def holds(self, at: datetime) -> bool:
        return self.begun <= at and (self.ended is None or at < self.ended)


def fifths(values: dict[Row, Any], from_above: bool = False) -> dict[Row, int]:
    """1 to 5 for each, by how many of its currency, the last part of its key, lie below it, or above."""
    scores = {}
    for key, value in values.items():
        rivals = [other for of, other in values.items() if of[-1] == key[-1]]
        passed = sum(other > value if from_above else other < value for other in rivals)
        steps = min(4, 5 * passed // (len(rivals) - 1)) if len(rivals) > 1 else 0
        scores[key] = 5 - steps if from_above else 1 + steps
    return scores


def segment(recency: int, frequency: int) -> str:
    rules: Sequence[tuple[str, Callable[[], bool]]] = (
        ("champion", lambda: recency >= 4 and frequency >= 4),
        ("new", lambda: recency >= 4 and frequency <= 2),
        ("loyal", lambda: recency >= 3 and frequency >= 3),
        ("at_risk", lambda: recency <= 2 and frequency >= 4),
        ("lost", lambda: recency == 1),
    )
    return next((name for name, holds in rules if holds()), "occasional")


def segments(purchases: Sequence[Purchase], day: date) -> set[Row]:
    """customer, currency, days since, purchases, net revenue, three scores, segment"""
    lately = [p for p in purchases if day - timedelta(365) < p.day <= day]
    names: dict[Row, set[str]] = defaultdict(set)
    net: dict[Row, Decimal] = defaultdict(Decimal)
    last: dict[Row, date] = {}
    for p in lately:
        key = (p.customer, p.currency)
        net[key] += p.net
        if p.name is not None:
            names[key].add(p.name)
            last[key] = max(last.get(key, p.day), p.day)
    recency = fifths(last, from_above=True)
    frequency = fifths({key: len(found) for key, found in names.items()})
    monetary = fifths({key: net[key] for key in names})
    return {
        (*key, (day - last[key]).days, len(names[key]), f"{net[key]:.4f}",
         recency[key], frequency[key], monetary[key], segment(recency[key], frequency[key]))
        for key in names
    }  # fmt: skip


def cohorts(purchases: Sequence[Purchase], day: date) -> set[Row]:
    """cohort month, months since, customers of the cohort, active ones"""
    months: dict[str, set[date]] = defaultdict(set)
    for p in purchases:
        if p.day <= day and p.name is not None:
            months[p.customer].add(p.day.replace(day=1))
    sizes = Counter(min(found) for found in months.values())
    active: Counter[tuple[date, int]] = Counter()
    for found in months.values():
        first = min(found)
        for month in found:
            active[first, 12 * (month.year - first.year) + month.month - first.month] += 1
    return {(first, since, sizes[first], count) for (first, since), count in active.items()}


def affinity(bought: Sequence[tuple[str, str, date]], day: date, least: int = 2) -> set[Row]:
    """product, other product, baskets with both, lift; `bought` has basket, product and day."""
    baskets: dict[str, set[str]] = defaultdict(set)
    for basket, product, on in bought:
        if on <= day:
            baskets[basket].add(product)
    single = Counter(product for found in baskets.values() for product in found)
    both = Counter(pair for found in baskets.values() for pair in combinations(sorted(found), 2))
    return {
        (a, b, count, round(count * len(baskets) / (single[a] * single[b]), 9))
        for (a, b), count in both.items()
        if count >= least
    }


def category_sales(
    sold: Sequence[Sold],
    products: Mapping[str, Sequence[Version]],
    categories: Mapping[str, Sequence[Version]],
    day: date,
) -> set[Row]:
    """day, category, its name, currency, purchases, units, gross revenue, refunds; of what had begun by the end of the day."""
    end = datetime.combine(day, time.max)
    names = {key: version.texts[0] for key, found in categories.items() for version in found if version.holds(end)}

    def category(each: Sold) -> str | None:
        begun = sorted(v for v in products.get(each.product or "", ()) if v.begun <= end)
        held = [v for v in begun if v.holds(each.at)] or [v for v in begun[:1] if v.begun > each.at]
        if not held:
            return None
        by_id, by_name = (re.split("[;|]", text or "")[0].strip() for text in held[0].texts)
        called = [key for key, name in names.items() if name and name.lower() == by_name.lower()]
        return by_id or min(called, default=None)

    of: dict[Row, list[Sold]] = defaultdict(list)
    for each in sold:
        if each.day <= day:
            key = category(each)
            of[each.day, key, names.get(key or ""), each.currency].append(each)
    return {
        (*key, len({e.purchase for e in found if e.purchase}),
         *(f"{sum((getattr(e, name) for e in found), Decimal(0)):.4f}" for name in ("units", "revenue", "refunds")))
        for key, found in of.items()
    }  # fmt: skip


def anomalies(net: Mapping[tuple[str, str, date], Decimal], last: date) -> dict[Row, float]:
    """{(day, store, currency, actual, expected, days before, direction): score} of what was sold up to the last day."""
    sold = {key: value for key, value in net.items() if key[2] <= last}
    end = max(day for *_, day in sold)
    found: dict[Row, float] = {}
    for store, currency in {key[:2] for key in sold}:
        first = min(day for *of, day in sold if of == [store, currency])
        for number in range((end - first).days + 1):
            day = first + timedelta(number)
            weeks = [day - timedelta(7 * week) for week in range(1, 9)]
            before = [sold.get((store, currency, each), Decimal(0)) for each in weeks if each >= first]
            if len(before) < 4:
                continue
            actual, expected = sold.get((store, currency, day), Decimal(0)), Decimal(median(before))
            spread = 1.4826 * float(median(abs(each - expected) for each in before))
            score = float(actual - expected) / max(spread, abs(float(expected)) / 20, 0.01)
            if abs(score) >= 3.5:
                direction = "high" if score > 0 else "low"
                found[day, store, currency, actual, expected, len(before), direction] = score
    return found
