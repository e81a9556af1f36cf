"""Serving: what changed in gold since the last time, brought to the serving store in one transaction.

Belongs here: which tables are served, what became of them, and the assets. The schema `serving` of the warehouse holds
what the store holds; the next generation is laid beside it, compared, written to the store, and only then takes its
place. A run that dies in between is told by the two numbers of the generation, and what it left is finished first.
"""

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import dagster as dg

from c360_assets import stages
from c360_assets.entities import declared
from c360_assets.status import check_status, last_checks
from c360_assets.store import OBJECTS, Change, Row, Shape, Store
from c360_assets.warehouse import INTEGER, TEXT, Session, Warehouse

GENERATION = "serving.generation"


@dataclass(frozen=True)
class Source:
    """A table that is served: the shape in the store, and the table of gold that it is."""

    shape: Shape
    reads: str


# What is served within seconds, as its own table of gold is.
REAL_TIME = Shape("real_time", ("happened_minute", "event_type"))


def sources(personal: Collection[str]) -> list[Source]:
    """All of them; `personal`: columns of customers that only some may see."""
    hidden = tuple(sorted(personal))
    return [
        Source(
            Shape("customers", ("customer_id",), (("email",), ("last_name", "first_name")), hidden),
            "gold.vw_customer_360",
        ),
        Source(Shape("customer_versions", ("customer_id", "valid_from"), (), hidden), "gold.dim_customer"),
        Source(
            # The content's hash has no key: who has an address could look for it.
            Shape("customer_events", ("customer_id", "event_time", "op", "nth"), (), (*hidden, "content")),
            "gold.vw_customer_timeline",
        ),
        Source(
            Shape(
                "orders",
                ("source", "order_id"),
                (("customer_id", "ordered_at", "source", "order_id"), ("ordered_at", "source", "order_id")),
            ),
            "gold.vw_order_analytics",
        ),
        Source(Shape("products", ("product_id", "currency")), "gold.vw_product_analytics"),
        Source(
            Shape("customer_moments", ("customer_id", "happened_at", "kind", "which", "currency")),
            "gold.vw_customer_moments",
        ),
        Source(Shape("daily_sales", ("sales_date", "store_id", "currency")), "gold.daily_sales_summary"),
        Source(Shape("anomalies", ("sales_date", "store_id", "currency")), "gold.anomalies"),
        Source(
            Shape(
                "stock",
                ("store_id", "product_id"),
                (("is_below_reorder_point", "units_short"), ("store_id", "is_below_reorder_point", "units_short")),
                amounts=("units_short",),
            ),
            "gold.vw_stock",
        ),
        Source(Shape("segments", ("currency", "segment")), "gold.segment_counts"),
        Source(Shape("segment_moves", ("currency", "segment_before", "segment")), "gold.segment_move_counts"),
        Source(Shape("cohorts", ("cohort_month", "months_since")), "gold.cohort_retention"),
        Source(Shape("top_customers", ("currency", "revenue_rank", "customer_id"), (), hidden), "gold.top_customers"),
        Source(Shape("issues", ("issue", "severity", "subject")), "gold.issue_counts"),
        Source(Shape("feed_days", ("feed", "loaded_on")), "gold.feed_days"),
        Source(REAL_TIME, "gold.vw_real_time"),
    ]


# The layer of what is served, in asset keys.
SERVING = "serving"
CHECKS = Shape("checks", ("asset", "name"))
STAGES = Shape("stage_seconds", ("feed", "stage"))


def serving_assets(
    project: Path,
    there: Collection[str],
    warehouse: Warehouse,
    store: Callable[[], Store],
    checks: Sequence[dg.AssetCheckKey] = (),
    between: Callable[[], object] = lambda: None,
    **policy: Any,
) -> list[dg.AssetsDefinition]:
    """
    One asset per table of gold that is `there`, made in one step: readers see all of a generation or nothing.
    Beside them stands the last word of each of the `checks`. `between`: as `serve` has it.
    """
    customer = declared(project).get("customer")
    served = [each for each in sources(customer.personal if customer else ()) if each.reads in there]
    if not served:
        return []
    specs = [
        dg.AssetSpec(
            [SERVING, each.shape.name],
            deps=[dg.AssetKey(each.reads.split("."))],
            description=f"{each.reads} as the API and the dashboards read it. One row per {', '.join(each.shape.key)}.",
            skippable=True,  # gold may not have it yet
        )
        for each in served
    ]

    specs.append(
        dg.AssetSpec(
            [SERVING, STAGES.name],
            deps=[dg.AssetKey(["staging", "object_ledger"])],
            description="Seconds from the object to each stage, of the worker's batches in the last hour, per feed.",
        )
    )

    @dg.multi_asset(name="serving", specs=specs, can_subset=True, **policy)
    def serving(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        chosen = [each for each in served if dg.AssetKey([SERVING, each.shape.name]) in context.selected_asset_keys]
        with warehouse.writing("asking how long it took") as session:
            took = stages.seconds(session)
        told = [Change(CHECKS, checked(context.instance, checks), anew=True), Change(STAGES, took, anew=True)]
        generation, batch, counts = serve(served, chosen, warehouse, store(), told, between)
        if dg.AssetKey([SERVING, STAGES.name]) in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=[SERVING, STAGES.name], metadata=_stage_metadata(took))
        for each in chosen:
            if each.shape.name in counts:
                brought, gone = counts[each.shape.name]
                yield dg.MaterializeResult(
                    asset_key=[SERVING, each.shape.name],
                    metadata={"brought": brought, "taken away": gone, "generation": generation, "batch": batch},
                )

    return [serving]


def _stage_metadata(took: Sequence[Row]) -> dict[str, Any]:
    """`clickstream gold p95`: seconds."""
    return {
        f"{row['feed']} {row['stage']} {share}": float(row[share]) for row in took for share in ("p50", "p95", "p99")
    }


def serve(
    served: Collection[Source],
    chosen: Collection[Source],
    warehouse: Warehouse,
    store: Store,
    beside: Collection[Change] = (),
    between: Callable[[], object] = lambda: None,
) -> tuple[int, str, Mapping[str, tuple[int, int]]]:
    """
    Brings the chosen of the served tables up to date, all of them where the store is new or another one, and what
    stands beside them. What is done in `between` two tables may change gold, and must serve nothing.

    Returns:
        generation, the newest batch in it, {table: rows brought and taken away}.
    """
    with warehouse.writing("serving") as session:
        session.ensure(GENERATION, {"generation": INTEGER, "batch": TEXT, "coming": TEXT})
        there = _recovered(session, served, store)
        tables = session.tables()
        made = [each for each in (chosen if there else served) if each.reads in tables]
        # Each model marks what it has taken; the newest of all is how far gold has come.
        marks = "select max(split_part(batch, ':', -1)) from gold.consumed_batches"
        batch = session.rows(marks)[0][0] or "" if "gold.consumed_batches" in tables else ""
        for each in made:
            between()
            session.execute(f"create or replace table {_next(each)} as select * from {each.reads}")
        compared: set[str] = set()

        def changes() -> Iterator[Change]:
            for each in made:
                between()
                change = _change(session, each, tables, anew=there == 0)
                if not change.anew:
                    compared.add(each.shape.name)
                yield change

        empty = []
        if not there:
            # Readers ask every table, also those that this project has nothing of, or a later run fills.
            brought = {change.shape.name for change in beside} | {each.shape.name for each in made}
            empty = [Change(shape, (), anew=True) for shape in _shapes() if shape.name not in brought]
            # What is emptied there is compared with nothing here, when gold has it again.
            for each in served:
                if each not in made and _table(each) in tables:
                    session.execute(f"drop table {_table(each)}")
        counts = store.write(there + 1, batch, chain(beside, empty, changes()), layout_of(served), _announce(session))
        for each in made:
            if each.shape.name in compared and counts[each.shape.name] == (0, 0):
                # What is served is what was laid beside it: nothing has to take its place.
                session.execute(f"drop table {_next(each)}")
        _take_place(session, served, there + 1, batch)
    store.close()
    return there + 1, batch, counts


def checked(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> Iterator[Row]:
    """The last word of each check: passed, warns, failed or never run."""
    for key, record in last_checks(instance, keys).items():
        told = check_status(key, record)
        yield {"asset": told.asset, "name": told.check, "status": told.status, "at": told.at}


def _announce(session: Session) -> str:
    """The mark of the generation that is written next. It stands here before the store has it: a number alone would not
    tell it from the next one of another time, where warehouse or store was put back."""
    mark = secrets.token_hex(8)
    if session.rows(f"select 1 from {GENERATION}"):
        session.execute(f"update {GENERATION} set coming = ?", [mark])
    else:
        session.execute(f"insert into {GENERATION} values (0, '', ?)", [mark])
    return mark


def _recovered(session: Session, served: Collection[Source], store: Store) -> int:
    """The generation that warehouse and store both hold; 0 where there is none, and all is to be served anew."""
    rows = session.rows(f"select generation, batch, coming from {GENERATION}")
    here, batch, coming = (int(rows[0][0]), *rows[0][1:]) if rows else (0, "", None)
    held = store.served()
    is_ours = held is not None and held.layout == layout_of(served)
    if held is not None and is_ours and held.generation == here + 1 and held.mark == coming:
        _take_place(session, served, held.generation, held.batch)
        return held.generation
    # Laid beside by a run that died before the store had it: whoever serves next must not take it for served.
    left = session.tables()
    for each in served:
        if _next(each) in left:
            session.execute(f"drop table {_next(each)}")
    return here if held is not None and is_ours and (held.generation, held.batch) == (here, batch) else 0


def layout_of(served: Collection[Source]) -> str:
    """Changes with the tables of the store: what has another layout is filled anew, whatever generation it holds."""
    return sha256(repr(([(each.shape, OBJECTS) for each in served], _shapes())).encode()).hexdigest()[:16]


def _shapes() -> list[Shape]:
    """Of all tables that a store has."""
    return [*(each.shape for each in sources(())), CHECKS, STAGES]


def _change(session: Session, each: Source, tables: Collection[str], *, anew: bool) -> Change:
    shape, table = each.shape, _table(each)
    if anew or table not in tables or _columns(session, table) != _columns(session, _next(each)):
        return Change(shape, _rows(session, f"select * from {_next(each)}"), anew=True)
    key = ", ".join(shape.key)
    return Change(
        shape,
        _rows(session, f"select * from {_next(each)} except select * from {table}"),
        _rows(session, f"select {key} from {table} except select {key} from {_next(each)}"),
    )


def _rows(session: Session, sql: str) -> Iterator[Row]:
    """Asked when the first row is wanted, for a session reads one result at a time."""
    columns, values = session.result(sql)
    for row in values:
        yield dict(zip((c.lower() for c in columns), row, strict=True))


def _columns(session: Session, table: str) -> list[str]:
    return session.result(f"select * from {table} limit 0")[0]


def _take_place(session: Session, served: Collection[Source], generation: int, batch: str) -> None:
    """What was laid beside becomes what is served; again, where that was broken off."""
    tables = session.tables()
    for each in served:
        if _next(each) in tables:
            session.replace(_table(each), _next(each))
    with session.transaction():
        session.execute(f"delete from {GENERATION}")
        session.execute(f"insert into {GENERATION} values (?, ?, null)", [generation, batch])


def _table(each: Source) -> str:
    return f"serving.{each.shape.name}"


def _next(each: Source) -> str:
    return f"serving.{each.shape.name}__next"
