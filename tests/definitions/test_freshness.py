"""Freshness by event time: what a check of a feed with a bound says of the newest event that was taken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from c360_assets.feeds import load_feeds
from c360_assets.freshness import freshness_checks, newest_events
from c360_assets.settings import PROJECT, Settings
from c360_assets.warehouse import TEXT, TIMESTAMP, Warehouse, open_warehouse

TABLES = {
    "clean.customer_rows": ("event_time", ("customers", "customers_dms")),
    "clean.pos_line_rows": ("sold_at", ("pos",)),
    "clean.click_rows": ("happened_at", ("clickstream",)),
}


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


@pytest.fixture
def warehouse(settings: Settings, now: datetime) -> Warehouse:
    made = open_warehouse(settings)
    with made.writing("test") as session:
        for table, (column, feeds) in TABLES.items():
            session.ensure(table, {"_feed": TEXT, column: TIMESTAMP, "reasons": TEXT})
            for feed in feeds:
                session.execute(f"insert into {table} values (?, ?, '[]')", [feed, now - timedelta(hours=3)])
    return made


def test_each_kind_of_feed_has_its_newest_event(warehouse: Warehouse, now: datetime) -> None:
    feeds = load_feeds([PROJECT / "dbt" / "models" / "staging"])
    with warehouse.writing("test") as session:
        session.execute("insert into clean.customer_rows values ('customers_dms', ?, '[\"bad_date\"]')", [now])
        session.execute("insert into clean.customer_rows values ('customers', ?, '[]')", [now - timedelta(hours=1)])
        found = newest_events(session, feeds.values(), now)
    assert found == {
        "customers": now - timedelta(hours=1),
        **dict.fromkeys(("customers_dms", "pos", "clickstream"), now - timedelta(hours=3)),
    }


@pytest.mark.parametrize(
    ("hours", "passed", "severity"), [(4, True, "WARN"), (2, False, "WARN"), (1.4, False, "ERROR")]
)
def test_a_check_warns_at_the_bound_and_fails_at_twice_that(
    warehouse: Warehouse, hours: float, passed: bool, severity: str
) -> None:
    feeds = load_feeds([PROJECT / "dbt" / "models" / "staging"])
    bounded = [
        replace(feeds["clickstream"], events_within_hours=hours),
        replace(feeds["pos"], events_within_hours=None),
    ]
    (check,) = freshness_checks(bounded, warehouse, set(TABLES))
    (key,) = check.check_keys
    assert key == dg.AssetCheckKey(dg.AssetKey(["clean", "click_rows"]), "clickstream_events_are_fresh")
    told: Any = check()
    assert (told.passed, told.severity.value) == (passed, severity)
    assert told.metadata["hours old"].value == pytest.approx(3, abs=0.1)
    assert freshness_checks(bounded, warehouse, set()) == []
