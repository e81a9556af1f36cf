"""Forecasts and customer value: what they are told from, and what they may not see. Skipped where the extra is absent."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta

import pytest

from c360_assets import predictions
from c360_assets.customer_value import DAYS, Estimates, estimates
from c360_assets.sales_forecast import HORIZON, forecast

pytestmark = pytest.mark.skipif(
    not predictions.is_installed(), reason="the extra predictions is not installed: requirements-all.lock"
)
AS_OF = date(2024, 6, 30)


def purchases(customers: int, seed: int) -> list[tuple[str, date, float]]:
    """A year of customers who come at rates of their own and, some of them, stay away for good after a purchase."""
    chance = random.Random(seed)
    found = []
    for number in range(customers):
        day = date(2023, 7, 1) + timedelta(chance.randrange(180))
        rate, spend = chance.gammavariate(1.2, 1 / 40), chance.uniform(10, 60)
        while day <= AS_OF:
            found.append((f"c{number:04}", day, round(spend * chance.uniform(0.8, 1.2), 2)))
            if chance.random() < 0.25:
                break
            day += timedelta(max(1, math.ceil(chance.expovariate(rate))))
    return found


@pytest.fixture(scope="module")
def bought() -> list[tuple[str, date, float]]:
    return purchases(400, 5)


@pytest.fixture(scope="module")
def told(bought: list[tuple[str, date, float]]) -> Estimates:
    found = estimates(bought, AS_OF)
    assert found is not None
    return found


def test_every_customer_is_told_of_once_with_what_was_bought(
    bought: list[tuple[str, date, float]], told: Estimates
) -> None:
    assert [e.customer_id for e in told.customers] == sorted({c for c, _, _ in bought})
    first = told.customers[0]
    days = [day for customer, day, _ in bought if customer == first.customer_id]
    assert (first.days_with_purchase, first.first_bought_on, first.last_bought_on) == (len(days), min(days), max(days))
    assert all(0 <= e.churn_risk <= 1 and e.expected_purchases >= 0 and e.expected_value >= 0 for e in told.customers)


def test_who_came_often_and_lately_comes_again_and_who_stayed_away_does_not(told: Estimates) -> None:
    often = [e for e in told.customers if e.days_with_purchase >= 5]
    lately = [e for e in often if (AS_OF - e.last_bought_on).days < 15]
    gone = [e for e in often if (AS_OF - e.last_bought_on).days > 120]
    assert lately and gone
    assert max(e.churn_risk for e in lately) < min(e.churn_risk for e in gone)
    assert min(e.expected_value for e in lately) > max(e.expected_value for e in gone)


def test_the_error_is_smaller_than_that_of_saying_the_same_for_everybody(told: Estimates) -> None:
    assert told.churn_error is not None and told.naive_error is not None
    assert told.churn_error < told.naive_error


def test_what_was_bought_after_the_day_changes_nothing(bought: list[tuple[str, date, float]]) -> None:
    day = AS_OF - timedelta(60)
    assert estimates(bought, day) == estimates([p for p in bought if p[1] <= day], day)


def test_the_labels_of_the_error_are_seen_by_the_comparison_alone(bought: list[tuple[str, date, float]]) -> None:
    """Whoever comes after the cut, the risks of the hold-out stay as they are: then the errors for one half and for the
    other add up to those for everybody and for nobody."""
    cut = AS_OF - timedelta(DAYS)
    known = [p for p in bought if p[1] <= cut]
    customers = sorted({c for c, _, _ in known})

    def errors(came: list[str]) -> tuple[float, float]:
        found = estimates(known + [(c, cut + timedelta(30), 20.0) for c in came], AS_OF)
        assert found is not None and found.churn_error is not None and found.naive_error is not None
        return found.churn_error, found.naive_error

    (nobody, naive), *others = (errors(came) for came in ([], customers[::2], customers[1::2], customers))
    one_half, other_half, everybody = (error for error, _ in others)
    assert one_half + other_half == pytest.approx(nobody + everybody, abs=1e-9)
    before = {c for c, day, _ in bought if day <= cut - timedelta(DAYS)}
    stayed = {c for c, day, _ in bought if cut - timedelta(DAYS) < day <= cut}
    # Nobody came: each one's label is 1, and the naive share, of the days before, does not know.
    assert naive == pytest.approx((len(before & stayed) / len(before)) ** 2)


def test_too_few_customers_or_repeats_tell_nothing() -> None:
    assert estimates(purchases(40, 1), AS_OF) is None
    assert estimates([(f"c{n}", AS_OF, 1.0) for n in range(500)], AS_OF) is None


def weekly(weeks: int) -> list[float]:
    return [100.0 + 50 * (day % 7) for day in range(7 * weeks)]


def test_a_week_that_repeats_is_forecast() -> None:
    series = weekly(20)
    told = forecast(series)
    assert told is not None and told.values == pytest.approx(weekly(4), rel=0.02)
    assert told.error is not None and told.error < 0.02 and len(told.values) == HORIZON


def test_growth_is_followed_and_told_with_the_smaller_error() -> None:
    series = [value * 1.02**day for day, value in enumerate(weekly(24))]
    told = forecast(series)
    assert told is not None and told.method == "smoothing"
    assert told.error is not None and told.naive_error is not None and told.error < told.naive_error
    assert sum(told.values) > sum(series[-HORIZON:])


def test_less_than_eight_weeks_tell_nothing_and_nothing_sold_has_no_error() -> None:
    assert forecast(weekly(8)[:-1]) is None
    told = forecast([0.0] * 200)
    assert told is not None and told.values == [0.0] * HORIZON and told.error is None
    short = forecast(weekly(9))
    assert short is not None and (short.method, short.error) == ("weekday mean", None)
