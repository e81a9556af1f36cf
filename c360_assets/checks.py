"""Checks: what dbt cannot state. They block at staging only; what must stop gold is a dbt test.

Belongs here: asset checks in Python, all of a feed in one step, made from the feeds' declarations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import dagster as dg

from c360_assets import instants
from c360_assets.expectations import ACCEPTED, MOST, ROWS_OF_A_SHARE, Expectation, silent_since, unusual_volumes
from c360_assets.feeds import Feed
from c360_assets.pending import BUILT
from c360_assets.warehouse import Session, Warehouse

SHOWN = 20
# Keys of records that people landed corrected (quarantine fix): they say nothing of what the source sends.
CORRECTED = "%.fixed-%"


@dataclass(frozen=True)
class Judged:
    """What a check found: lines for the eye, by heading; it passed where the lines of `failing` are none."""

    failing: str
    metadata: dict[str, Any]

    @property
    def passed(self) -> bool:
        return not self.metadata[self.failing]


def staging_checks(
    feed: Feed, warehouse: Warehouse, hidden: Collection[str] = (), between: Callable[[], object] = lambda: None
) -> dg.AssetChecksDefinition:
    """The checks of one feed's staging table: those that every feed has, and what it declares under `expect`.

    Of `hidden` columns no value is told. `between`: what a process that stays does before it asks.
    """
    staging = dg.AssetKey(["staging", feed.name])
    fixed = [
        dg.AssetCheckSpec(
            "rows_stand_in_the_ledger", asset=staging, blocking=True,
            description="Every row staged belongs to an object version of the ledger, and stands once.",
        ),
        dg.AssetCheckSpec(
            "objects_could_be_read", asset=staging,
            description="No object is unreadable or gone. A replaced or dismissed one is no trouble any more.",
        ),
        dg.AssetCheckSpec(
            "columns_as_declared", asset=staging,
            description="The newest batch has no unknown columns, and all optional ones somewhere.",
        ),
    ]  # fmt: skip
    expected = [dg.AssetCheckSpec(e.name, asset=staging, blocking=e.blocks, description=e.text) for e in feed.expect]

    @dg.multi_asset_check(name=f"staging__{feed.name}__checks", specs=[*fixed, *expected])
    def checks() -> Iterator[dg.AssetCheckResult]:
        between()
        with warehouse.reading() as session:
            judged = {
                "rows_stand_in_the_ledger": _in_ledger(session, feed),
                "objects_could_be_read": _readable(session, feed),
                "columns_as_declared": _as_declared(session, feed),
                **_as_expected(session, feed, instants.now(), hidden),
            }
        for spec in [*fixed, *expected]:
            found = judged[spec.name]
            yield dg.AssetCheckResult(
                asset_key=staging,
                check_name=spec.name,
                passed=found.passed,
                severity=dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN,
                metadata=found.metadata,
            )

    return checks


def _in_ledger(session: Session, feed: Feed) -> Judged:
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
    return Judged(
        "failing objects", {"failing objects": [f"{key} {etag} batch {batch}" for key, etag, batch, *_ in failing]}
    )


def _readable(session: Session, feed: Feed) -> Judged:
    failing = session.rows(
        f"""
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
        limit {SHOWN}
        """,
        [feed.name],
    )
    return Judged("objects", {"objects": [f"{key}: {why}" for key, why in failing]})


def _as_declared(session: Session, feed: Feed) -> Judged:
    given = ", ".join(f"count({column})" for column in feed.columns)
    ((batch, *_),) = session.rows(f"select max(_batch) from staging.{feed.name}")
    newest = f"from staging.{feed.name} where _batch = ? and _key not like ?"
    ((rows, extra, *counts),) = session.rows(f"select count(*), count(_extra), {given} {newest}", [batch, CORRECTED])
    some = session.rows(f"select distinct _extra {newest} and _extra is not null limit 100", [batch, CORRECTED])
    empty = [column for column, count in zip(feed.columns, counts, strict=True) if rows and not count]
    unknown = [f"{extra} rows with unknown columns"] if extra else []
    return Judged(
        "not as declared",
        {
            "not as declared": [*unknown, *(f"no row has {column}" for column in empty)],
            # Their names alone: what stands in them may be a person's.
            "unknown, for example": sorted({name for (text,) in some for name in json.loads(text)}),
        },
    )


def _as_expected(session: Session, feed: Feed, now: datetime, hidden: Collection[str]) -> dict[str, Judged]:
    """What the feed declares under `expect`, of the objects that no whole build has taken yet, or else the newest."""
    if not feed.expect:
        return {}
    since = _first_to_judge(session, feed)
    released = set(
        session.rows(
            "select _key, _etag from staging.quarantine_decisions where feed = ? and _row = 0 and decision = ?",
            [feed.name, ACCEPTED],
        )
    )
    return {
        e.name: Judged(
            "failing", {"failing": lines[:SHOWN], **({"remedy": e.remedy} if lines and e.blocks else {})}
        )
        for e, lines in [
            *_rows_as_expected(session, feed, since, released, hidden),
            *((e, _feed_as_expected(session, feed, e, since, released, now)) for e in feed.expect if not _of_rows(e)),
        ]
    }  # fmt: skip


def held_up(session: Session, feeds: Sequence[Feed], hidden: Collection[str] = ()) -> list[str]:
    """What of the feeds breaks an expectation that blocks, a line each with what ends it."""
    found = []
    for feed in feeds:
        blocking = replace(feed, expect=tuple(e for e in feed.expect if e.blocks))
        for name, judged in _as_expected(session, blocking, instants.now(), hidden).items():
            if not judged.passed:
                told = "; ".join(judged.metadata["failing"])
                found.append(f"{feed.name}: {name}: {told}; {judged.metadata['remedy']}")
    return found


def _of_rows(e: Expectation) -> bool:
    return e.column is not None and e.rule != "distinct"


def _first_to_judge(session: Session, feed: Feed) -> str:
    """The first batch that no whole build has taken; the newest, if one has taken all."""
    asked = f"select max(batch) from {BUILT} where feed = ?"
    taken = session.rows(asked, [feed.name]) if BUILT in session.tables() else [(None,)]
    ((first, newest),) = session.rows(
        "select min(case when batch > ? then batch end), max(batch) from staging.object_ledger where feed = ?",
        [taken[0][0] or "", feed.name],
    )
    return str(first or newest or "")


def _rows_as_expected(
    session: Session, feed: Feed, since: str, released: Collection[tuple[str, str]], hidden: Collection[str]
) -> list[tuple[Expectation, list[str]]]:
    """Per expectation about the values of rows: the objects that break it, with how many rows and such a text."""
    expected = [e for e in feed.expect if _of_rows(e)]
    if not expected:
        return []
    # The texts of declarations are bound, never written into the statement: they may hold anything.
    texts, broken, counted = [], [], []
    bound_texts: list[str] = []
    bound_nulls: list[str] = []
    for n, e in enumerate(expected):
        text = f"nullif(trim({e.column}), '')"
        if feed.nulls:
            text = f"case when trim({e.column}) not in ({_places(feed.nulls)}) then {text} end"
            bound_nulls += feed.nulls
        texts.append(f"{text} as text_{n}")
        broken.append(f"case when {_is_broken(e, f'text_{n}')} then coalesce(text_{n}, '') end as broken_{n}")
        bound_texts += e.texts
        counted.append(f"count(broken_{n}), min(broken_{n})")
    rows = session.rows(
        f"""
        select _key, _etag, count(*), {", ".join(counted)}
        from (
            select _key, _etag, {", ".join(broken)}
            from (
                select _key, _etag, {", ".join(texts)} from staging.{feed.name}
                where _superseded_at is null and _batch >= ?
            ) as texts
        ) as broken
        group by _key, _etag
        order by _key, _etag
        """,
        [*bound_texts, *bound_nulls, since],
    )
    found: list[tuple[Expectation, list[str]]] = [(e, []) for e in expected]
    for key, etag, count, *counts in rows:
        if (key, etag) in released:
            continue
        for (e, lines), how_many, example in zip(found, counts[::2], counts[1::2], strict=True):
            if e.rule == "null_share":
                if count >= ROWS_OF_A_SHARE and how_many > e.number * count:
                    lines.append(f"{key}: {how_many} of {count} rows have none")
            elif how_many:
                told = "" if e.column in hidden else f", for example '{example}'"
                lines.append(f"{key}: {how_many} of {count} rows{told}")
    return found


def _feed_as_expected(
    session: Session, feed: Feed, e: Expectation, since: str, released: Collection[tuple[str, str]], now: datetime
) -> list[str]:
    """What breaks an expectation about whole objects, or about all of the feed."""
    if e.rule == "volume":
        return _unusual(session, feed, since, released)
    if e.rule == "freshness":
        silent = silent_since(_hours_with_arrivals(session, feed), now)
        return [f"nothing since {silent[0]:%Y-%m-%d %H}:00; {silent[1]} was usual at most"] if silent else []
    ((rows, found),) = session.rows(
        f"select count(*), count(distinct trim({e.column})) from staging.{feed.name} where _superseded_at is null"
    )
    return [f"{found} different {e.column}, of at least {e.number:g}"] if rows and found < e.number else []


def _is_broken(e: Expectation, text: str) -> str:
    if e.rule == "null_share":
        return f"{text} is null"
    if e.rule == "one_of":
        return f"{text} not in ({_places(e.texts)})"
    return f"try_cast({text} as double) {'<' if e.rule == 'at_least' else '>'} {e.number}"


def _places(texts: Collection[str]) -> str:
    return ", ".join("?" * len(texts))


def _unusual(session: Session, feed: Feed, since: str, released: Collection[tuple[str, str]]) -> list[str]:
    """The objects whose rows, as far as they could be read, are more or fewer than those before them let expect.

    Versions that were replaced are history too. A record that was landed corrected, or read after all, is no object of
    its own: the version counts as one, from the batch in which it first came.
    """
    objects = session.rows(
        """
        select key, etag, min(batch), max(case when status <> 'superseded' then 1 else 0 end)
        from staging.object_ledger
        where feed = ? and status in ('loaded', 'empty', 'superseded') and key not like ?
        group by key, etag
        order by min(last_modified), key
        """,
        [feed.name, CORRECTED],
    )
    judged = [
        n
        for n, (key, etag, batch, stands) in enumerate(objects)
        if stands and batch >= since and (key, etag) not in released
    ]
    if not judged:
        return []
    # Of a long history only the end is counted: what is judged, and what that is held against.
    first = max(0, judged[0] - MOST)
    counted = session.rows(
        f"select _key, _etag, count(*) from staging.{feed.name} where _batch >= ? group by _key, _etag",
        [min(batch for _, _, batch, _ in objects[first:])],
    )
    rows = {(key, etag): count for key, etag, count in counted}
    sizes = [rows.get((key, etag), 0) for key, etag, *_ in objects[first:]]
    return [
        f"{objects[first + place][0]}: {sizes[place]} rows, where {least} to {most} were to be expected"
        for place, least, most in unusual_volumes(sizes, [n - first for n in judged])
    ]


def _hours_with_arrivals(session: Session, feed: Feed) -> list[datetime]:
    return [
        hour
        for (hour,) in session.rows(
            "select distinct date_trunc('hour', loaded_at) from staging.object_ledger "
            "where feed = ? and status in ('loaded', 'empty', 'superseded') order by 1",
            [feed.name],
        )
    ]
