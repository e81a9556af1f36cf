"""Checks: what dbt cannot state. They block at staging only; what must stop gold is a dbt test.

Belongs here: asset checks in Python, one factory per kind, made from the feeds' declarations.
"""

from __future__ import annotations

import dagster as dg

from c360_assets.feeds import Feed
from c360_assets.warehouse import Session, Warehouse

SHOWN = 20


def staging_checks(feed: Feed, warehouse: Warehouse) -> list[dg.AssetChecksDefinition]:
    """The checks of one feed's staging table."""
    staging = dg.AssetKey(["staging", feed.name])

    @dg.asset_check(
        asset=staging,
        name="rows_stand_in_the_ledger",
        blocking=True,
        description="Every row staged belongs to an object version of the ledger, and stands once.",
    )
    def rows_stand_in_the_ledger() -> dg.AssetCheckResult:
        with warehouse.reading() as session:
            failing = session.rows(
                f"""
                select s._key, s._etag, s._batch, count(*), count(distinct s._row), count(l.key)
                from staging.{feed.name} as s
                left join (select distinct key, etag, batch from staging.object_ledger where feed = '{feed.name}') as l
                    on s._key = l.key and s._etag = l.etag and s._batch = l.batch
                group by s._key, s._etag, s._batch
                having count(*) <> count(distinct s._row) or count(*) <> count(l.key)
                limit {SHOWN}
                """
            )
        return dg.AssetCheckResult(
            passed=not failing,
            metadata={"failing objects": [f"{key} {etag} batch {batch}" for key, etag, batch, *_ in failing]},
        )

    @dg.asset_check(
        asset=staging,
        name="objects_could_be_read",
        description="No object is unreadable or gone. A replaced or dismissed one is no trouble any more.",
    )
    def objects_could_be_read() -> dg.AssetCheckResult:
        with warehouse.reading() as session:
            failing = _unread(session, feed)
        return dg.AssetCheckResult(
            passed=not failing,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"objects": [f"{key}: {why}" for key, why in failing]},
        )

    @dg.asset_check(
        asset=staging,
        name="columns_as_declared",
        description="The newest batch has no unknown columns, and all optional ones somewhere.",
    )
    def columns_as_declared() -> dg.AssetCheckResult:
        given = ", ".join(f"count({column})" for column in feed.columns)
        with warehouse.reading() as session:
            ((batch, *_),) = session.rows(f"select max(_batch) from staging.{feed.name}")
            ((rows, extra, *counts),) = session.rows(
                f"select count(*), count(_extra), {given} from staging.{feed.name} where _batch = ?", [batch]
            )
            examples = session.rows(
                f"select distinct _extra from staging.{feed.name} where _batch = ? and _extra is not null limit 3",
                [batch],
            )
        empty = [column for column, count in zip(feed.columns, counts, strict=True) if rows and not count]
        return dg.AssetCheckResult(
            passed=not extra and not empty,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "rows with unknown columns": extra,
                "unknown, for example": [text for (text,) in examples],
                "columns without any value": empty,
            },
        )

    return [rows_stand_in_the_ledger, objects_could_be_read, columns_as_declared]


def _unread(session: Session, feed: Feed) -> list[tuple[str, str]]:
    return [
        (str(key), str(why))
        for key, why in session.rows(
            """
            select l.key, l.status
            from staging.object_ledger as l
            left join staging.quarantine_decisions as d
                on l.feed = d.feed and l.key = d._key and l.etag = d._etag and d._row = 0 and d.decision = 'dismiss'
            where l.feed = ? and l.status in ('unreadable', 'gone') and d.feed is null
                and not exists (
                    select 1 from staging.object_ledger as later
                    where later.feed = l.feed and later.key = l.key
                        and later.batch > l.batch and later.status = 'loaded'
                )
            order by l.key
            limit 20
            """,
            [feed.name],
        )
    ]
