"""Customer value: who will buy again, how often, and what that is worth, from purchases up to a day.

Belongs here: purchases in, estimates out. Needs the extra `predictions` (pymc-marketing): how often is told by the
BG/NBD model (Fader, Hardie, Lee 2005), for how much by the Gamma-Gamma model, both at their most likely parameters.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

DAYS = 90
MONTHS = 12
# Per month, so that a year from now counts a tenth less.
DISCOUNT = 0.01
# With fewer, the parameters would be those of the priors.
LEAST_CUSTOMERS, LEAST_REPEATING = 50, 20

# customer_id, day, amount: one per customer and day
Purchases = Sequence[tuple[str, date, float]]


@dataclass(frozen=True)
class Estimate:
    """`churn_risk`: of no purchase in the next 90 days; `expected_value`: of the next twelve months, discounted."""

    customer_id: str
    days_with_purchase: int
    first_bought_on: date
    last_bought_on: date
    churn_risk: float
    expected_purchases: float
    expected_value: float


@dataclass(frozen=True)
class Estimates:
    """`churn_error`: the Brier score that the same way had on the last 90 days, told from those before; `naive_error`:
    that of saying for everybody the share of the 90 days before those. None where there is too little to tell."""

    customers: list[Estimate]
    churn_error: float | None
    naive_error: float | None


def estimates(purchases: Purchases, as_of: date) -> Estimates | None:
    """Of every customer who bought up to the day; None where too few did, or too few of them twice."""
    known = [p for p in purchases if p[1] <= as_of]
    table = _summary(known, as_of)
    if not _is_enough(table):
        return None
    model = _fitted(table)
    churn = model.expected_probability_no_purchase(DAYS, data=table).mean(("chain", "draw")).values
    often = model.expected_purchases(table, future_t=DAYS).mean(("chain", "draw")).values
    value = _value(model, table)
    found = [
        Estimate(row.customer_id, row.frequency + 1, row.first, row.last, float(risk), float(n), float(worth))
        for row, risk, n, worth in zip(table.itertuples(), churn, often, value, strict=True)
    ]
    return Estimates(found, *_holdout_errors(known, as_of))


def _holdout_errors(purchases: Purchases, as_of: date) -> tuple[float | None, float | None]:
    cut, before = as_of - timedelta(DAYS), as_of - timedelta(2 * DAYS)
    table = _summary([p for p in purchases if p[1] <= cut], cut)
    earlier = {p[0] for p in purchases if p[1] <= before}
    if not _is_enough(table) or not earlier:
        return None, None
    # The labels, (cut, as_of], are seen by the comparison alone.
    came = {p[0] for p in purchases if cut < p[1]}
    stayed = {p[0] for p in purchases if before < p[1] <= cut}
    naive = 1 - len(earlier & stayed) / len(earlier)
    risks = _fitted(table).expected_probability_no_purchase(DAYS, data=table).mean(("chain", "draw")).values
    gone = [0.0 if customer in came else 1.0 for customer in table.customer_id]

    def brier(told: Sequence[float]) -> float:
        return sum((t - g) ** 2 for t, g in zip(told, gone, strict=True)) / len(gone)

    return brier([float(r) for r in risks]), brier([naive] * len(gone))


def _summary(purchases: Purchases, as_of: date) -> Any:
    """Per customer: repeats, days from first to last purchase and to `as_of`, mean amount of the repeats."""
    import pandas

    days: dict[str, list[tuple[date, float]]] = {}
    for customer, day, amount in sorted(purchases):
        days.setdefault(customer, []).append((day, amount))
    rows = [
        (
            customer, len(each) - 1, float((each[-1][0] - each[0][0]).days), float((as_of - each[0][0]).days),
            sum(a for _, a in each[1:]) / max(1, len(each) - 1), each[0][0], each[-1][0],
        )
        for customer, each in days.items()
    ]  # fmt: skip
    return pandas.DataFrame(
        rows, columns=["customer_id", "frequency", "recency", "T", "monetary_value", "first", "last"]
    )


def _is_enough(table: Any) -> bool:
    return len(table) >= LEAST_CUSTOMERS and int((table.frequency > 0).sum()) >= LEAST_REPEATING


def _fitted(table: Any) -> Any:
    with _quiet():
        from pymc_marketing import clv

        model = clv.BetaGeoModel(data=table[["customer_id", "frequency", "recency", "T"]])
        model.fit(method="map", progressbar=False)
    return model


def _value(model: Any, table: Any) -> Any:
    with _quiet():
        from pymc_marketing import clv

        repeating = table[(table.frequency > 0) & (table.monetary_value > 0)]
        spend = clv.GammaGammaModel(data=repeating[["customer_id", "frequency", "monetary_value"]])
        spend.fit(method="map", progressbar=False)
        found = spend.expected_customer_lifetime_value(
            transaction_model=model, data=table, future_t=MONTHS, discount_rate=DISCOUNT, time_unit="D"
        )
    return found.mean(("chain", "draw")).values


class _quiet(warnings.catch_warnings):
    """What the library says of its optimizer and of versions to come is not for a run's log."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        for name in ("pymc", "pytensor"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return entered
