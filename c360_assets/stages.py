"""Stages: when each batch of the worker had come how far, from the object to what readers see.

Belongs here: the register of those times, and what they come to. Times are UTC; `landed` is when S3 had the oldest
object of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from c360_assets import instants
from c360_assets.warehouse import INTEGER, TEXT, TIMESTAMP, Session

TABLE = "staging.batch_times"
STAGES = ("landed", "seen", "staged", "core", "gold", "served")
COLUMNS = {"feed": TEXT, "objects": INTEGER, "rows": INTEGER} | {f"{stage}_at": TIMESTAMP for stage in STAGES}
# Days for which they are kept.
KEPT = 30


def record(session: Session, feed: str, objects: int, rows: int, at: Mapping[str, datetime | None]) -> None:
    """One batch; a stage that it has not come to is null."""
    session.execute(
        f"insert into {TABLE} values (?, ?, ?, {', '.join('?' * len(STAGES))})",
        [feed, objects, rows, *(at.get(stage) for stage in STAGES)],
    )


def prepare(session: Session) -> None:
    """The table, without what is too old."""
    session.ensure(TABLE, COLUMNS)
    trim(session)


def trim(session: Session) -> None:
    """Takes away what is too old."""
    session.execute(f"delete from {TABLE} where landed_at < ?", [instants.now() - timedelta(days=KEPT)])


def seconds(session: Session, since: datetime | None = None) -> list[dict[str, Any]]:
    """Per feed and stage the seconds since the object landed: p50, p95, p99, over the last hour or since then."""
    if TABLE not in session.tables():
        return []
    since = since or instants.now() - timedelta(hours=1)
    found: list[dict[str, Any]] = []
    for stage in STAGES[1:]:
        rows: Sequence[tuple[Any, ...]] = session.rows(
            f"""
            select
                feed, count(*), sum(objects),
                {", ".join(f"percentile_cont({p}) within group (order by lag)" for p in ("0.5", "0.95", "0.99"))}
            from (
                select feed, objects, datediff('millisecond', landed_at, {stage}_at) / 1000.0 as lag from {TABLE}
                where landed_at >= ? and {stage}_at is not null
            ) as lags
            group by feed
            order by feed
            """,
            [since],
        )
        for feed, batches, objects, *lags in rows:
            p50, p95, p99 = (round(float(lag), 3) for lag in lags)
            found.append({"feed": feed, "stage": stage, "batches": int(batches), "objects": int(objects),
                          "p50": p50, "p95": p95, "p99": p99})  # fmt: skip
    return found
