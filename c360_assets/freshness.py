"""Freshness by event time: how old the newest event of a feed is, whenever the object came that brought it.

Belongs here: the newest event of each feed, and the checks of feeds that declare `events_within_hours`. Dagster's own
freshness policies know when an asset was last made: a source that sends yesterday's events all day is fresh to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from c360_assets import instants
from c360_assets.feeds import Feed
from c360_assets.warehouse import Session, Warehouse

# Where the rows of an entity say when a thing happened; of all other kinds it is `event_time`.
_TIME_OF_KIND = {"lines": "sold_at", "clicks": "happened_at"}


def newest_events(session: Session, feeds: Iterable[Feed], now: datetime) -> dict[str, datetime]:
    """{feed: its newest event that was taken}, UTC without zone; what a wrong clock dates after `now` is left out.

    A feed without an entity, or of which nothing was taken, is not in it.
    """
    found: dict[str, datetime] = {}
    there = session.tables()
    for table, column in sorted({_rows_of(feed) for feed in feeds if feed.entity}):
        if table in there:
            found |= dict(
                session.rows(
                    f"select _feed, max({column}) from {table} "
                    f"where reasons = '[]' and {column} <= ? group by _feed having max({column}) is not null",
                    [now],
                )
            )
    return found


def is_late(newest: datetime | None, hours: float | None, now: datetime) -> bool:
    """One that never came is not awaited."""
    return newest is not None and hours is not None and now - newest > timedelta(hours=hours)


def freshness_checks(
    feeds: Iterable[Feed], warehouse: Warehouse, tables: Collection[str]
) -> list[dg.AssetChecksDefinition]:
    """A check for each feed with a bound, on the table that has its events; it warns, and fails at twice the bound.

    `tables`: those of the project.
    """
    bounded = [feed for feed in feeds if feed.events_within_hours is not None and feed.entity]
    return [_check(feed, warehouse) for feed in bounded if _rows_of(feed)[0] in tables]


def _check(feed: Feed, warehouse: Warehouse) -> dg.AssetChecksDefinition:
    bound = feed.events_within_hours
    assert bound is not None

    @dg.asset_check(
        asset=_rows_of(feed)[0].split("."),
        name=f"{feed.name}_events_are_fresh",
        description=f"The newest event of feed {feed.name} is at most {bound:g} hours old.",
    )
    def fresh() -> dg.AssetCheckResult:
        now = instants.now()
        with warehouse.reading() as session:
            newest = newest_events(session, [feed], now).get(feed.name)
        told: dict[str, Any] = {"newest event": "none", "hours allowed": bound}
        if newest:
            age = round((now - newest).total_seconds() / 3600, 2)
            told |= {"newest event": f"{newest:%Y-%m-%d %H:%M:%S}", "hours old": age}
        return dg.AssetCheckResult(
            passed=not is_late(newest, bound, now),
            severity=dg.AssetCheckSeverity.ERROR if is_late(newest, 2 * bound, now) else dg.AssetCheckSeverity.WARN,
            metadata=told,
        )

    return fresh


def _rows_of(feed: Feed) -> tuple[str, str]:
    """The table that has the feed's rows, and the column with their time."""
    return f"clean.{feed.entity}_rows", _TIME_OF_KIND.get(feed.kind, "event_time")
