"""The tables of predictions on both engines: as of any day, made again to the cent, and no part of a sync."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from c360_assets import automation, predictions, registers
from c360_assets.landing import Bucket
from c360_assets.settings import PROJECT, Settings
from c360_assets.warehouse import Warehouse, insert, open_warehouse
from tests.parts import Platform, settings_at
from tests.unit.test_predictions import AS_OF, purchases, weekly

installed = pytest.mark.skipif(
    not predictions.is_installed(), reason="the extra predictions is not installed: requirements-all.lock"
)
ORDERS = {
    "currency": "text", "customer_id": "text", "order_day": "date", "amount": "decimal", "is_sale": "boolean",
}  # fmt: skip
LINES = {"currency": "text", "customer_id": "text", "sales_date": "date", "amount": "decimal", "kind": "text"}
DAYS = {"currency": "text", "category_id": "text", "sales_date": "date", "gross_revenue": "decimal"}
TYPES = {"text": "varchar", "date": "date", "decimal": "decimal(18,4)", "boolean": "boolean"}


def gold(warehouse: Warehouse) -> None:
    """What predictions read: orders of 300 customers, refunds and cancelled orders that count for nothing, half a year.

    What the day has brought that goes on, and what a wrong clock dates ahead, makes neither the last one.
    """
    bought = purchases(300, 9)
    start = AS_OF - timedelta(7 * 26 - 1)
    rows: dict[str, tuple[dict[str, str], list[tuple[Any, ...]]]] = {
        "fct_orders": (
            ORDERS,
            [("EUR", customer, day, amount, True) for customer, day, amount in bought[::2]]
            + [("EUR", "cancelled", AS_OF, 5, False), ("EUR", None, AS_OF, 5, True), ("USD", "alone", AS_OF, 5, True)]
            + [("EUR", "ahead", AS_OF + timedelta(400), 5, True)],
        ),
        "fct_pos_lines": (
            LINES,
            [("EUR", customer, day, amount, "sale") for customer, day, amount in bought[1::2]]
            + [("EUR", "refunded", AS_OF, 5, "refund"), ("EUR", "today", AS_OF + timedelta(1), 5, "sale")],
        ),
        "product_category_days": (
            DAYS,
            [("EUR", "cups", start + timedelta(n), value) for n, value in enumerate(weekly(26)) if value]
            + [("EUR", None, AS_OF, 5)],
        ),
    }
    with warehouse.writing("test") as session:
        registers.prepare_tables(session, [])
        came = datetime.combine(AS_OF + timedelta(1), time(9))
        session.execute("insert into staging.object_ledger (feed, key, loaded_at) values ('pos', 'k', ?)", [came])
        session.execute("create schema if not exists gold")
        for table, (columns, found) in rows.items():
            session.execute(f"create table gold.{table} ({', '.join(f'{n} {TYPES[k]}' for n, k in columns.items())})")
            insert(session, f"gold.{table}", columns, found)


def made(warehouse: Warehouse, as_of: str = "", known_at: str = "") -> None:
    assets = predictions.prediction_assets(warehouse, predictions.READS)
    config = {"ops": {a.node_def.name: {"config": {"as_of": as_of, "known_at": known_at}} for a in assets}}
    assert dg.materialize(assets, run_config=config).success


def rows_of(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    with warehouse.reading() as session:
        return [tuple(map(str, row)) for row in session.rows(sql)]


MODELS = (
    "--exclude-resource-type", "test", "--select", "+fct_orders", "+fct_pos_lines", "+product_category_sales",
)  # fmt: skip
VALUES = "select * from gold.customer_value where as_of = cast('{}' as date) order by currency, customer_id"
FORECASTS = "select * from gold.sales_forecast where as_of = cast('{}' as date) order by category_id, sales_date"


@installed
@pytest.mark.parametrize("engine", ["duckdb", "fakesnow"])
def test_the_tables_of_any_day_are_made_again_to_the_cent(engine: str, request: pytest.FixtureRequest) -> None:
    settings: Settings = request.getfixturevalue("settings" if engine == "duckdb" else "on_snowflake")
    warehouse = open_warehouse(settings)
    gold(warehouse)
    day = (AS_OF - timedelta(20)).isoformat()
    made(warehouse, day)
    before = [rows_of(warehouse, sql.format(day)) for sql in (VALUES, FORECASTS)]
    assert all(before)
    made(warehouse)
    last = [rows_of(warehouse, sql.format(AS_OF)) for sql in (VALUES, FORECASTS)]
    # Each row says as known when it was told, which is when the last object came.
    assert {row[-1][:19] for table in (*before, *last) for row in table} == {f"{AS_OF + timedelta(1)} 09:00:00"}
    # Of the category that sold on one day alone, of the customers of few, of refunds and of nobody, nothing is told.
    assert {row[1] for row in last[0]} == {"EUR"} and {row[2] for row in last[1]} == {"cups"}
    assert not {"cancelled", "refunded", "None"} & {row[2] for row in last[0]}
    with warehouse.writing("test") as session:
        later = [("EUR", f"c{n:04}", AS_OF - timedelta(5), 99, True) for n in range(300)]
        insert(session, "gold.fct_orders", ORDERS, later)
    made(warehouse, day)
    assert [rows_of(warehouse, sql.format(day)) for sql in (VALUES, FORECASTS)] == before
    made(warehouse)
    assert rows_of(warehouse, VALUES.format(AS_OF)) != last[0]


def sold(platform: Platform, name: str, orders: Sequence[tuple[str, date, float]], *more: tuple[str, str, str]) -> None:
    """Lands orders of one cup each, beside further objects: feed, header and lines."""
    numbered = [(f"{name}{n}", *order) for n, order in enumerate(orders)]
    objects = [
        ("orders", "order_id,customer_id,order_date,order_amount,currency", "".join(f"{o},{c},{d},{a},EUR\n" for o, c, d, a in numbered)),
        ("order_items", "order_item_id,order_id,product_id,quantity,price", "".join(f"{o},{o},cup,1,{a}\n" for o, _, _, a in numbered)),
        *more,
    ]  # fmt: skip
    for feed, header, lines in objects:
        platform.put(f"{name}_{feed}_of_{len(lines)}.csv", f"{header}\n{lines}".encode(), feed)
    for feed in sorted({feed for feed, *_ in objects}):
        platform.load(feed)
    platform.build(*MODELS)


@installed
def test_what_was_told_of_a_day_is_told_again_by_what_was_known_then(tmp_path: Path, bucket: Bucket) -> None:
    """Orders of before the day that came late, one that was cancelled, and the cups in another category since spring."""
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=PROJECT / "dbt")
    cups = "product_id,product_name,category_id,updated_at"
    categories = ("categories", "category_id,category_name,updated_at", "C1,Cups,2023-01-01\nC2,Gifts,2023-01-01\n")
    sold(platform, "first", purchases(300, 9), ("products", cups, "cup,Cup,C1,2023-01-01\n"), categories)
    ((known_at,),) = platform.rows("select max(loaded_at) from staging.object_ledger")
    made(platform.warehouse)
    tables = [f"select * from gold.{table} order by all" for table in ("customer_value", "sales_forecast")]
    told = [rows_of(platform.warehouse, sql) for sql in tables]
    assert all(told) and {row[2] for row in told[1]} == {"C1"}
    ((day,),) = platform.rows("select distinct as_of from gold.customer_value")
    late = [(f"c{n:04}", day - timedelta(5), 99.0) for n in range(300)] + [("c0001", day + timedelta(3), 5.0)]
    cancelled = ("orders", "order_id,order_status", "first0,cancelled\nfirst1,cancelled\n")
    sold(platform, "late", late, ("products", cups, "cup,Cup,C2,2024-03-01\n"), cancelled)
    made(platform.warehouse, day.isoformat())
    now = [rows_of(platform.warehouse, sql) for sql in tables]
    assert now[0] != told[0] and {row[2] for row in now[1]} == {"C1", "C2"}
    assert {row[-1] for table in told for row in table} == {str(known_at)}
    assert str(known_at) not in {row[-1] for table in now for row in table if row[0] == str(day)} | {"None"}
    # The last day is another now, too.
    made(platform.warehouse, known_at=known_at.isoformat())
    assert [rows_of(platform.warehouse, sql) for sql in tables] == told


@installed
def test_where_nothing_was_bought_the_tables_are_empty(settings: Settings) -> None:
    warehouse = open_warehouse(settings)
    gold(warehouse)
    with warehouse.writing("test") as session:
        for table in ("fct_orders", "fct_pos_lines", "product_category_days"):
            session.execute(f"delete from gold.{table}")
    made(warehouse)
    assert rows_of(warehouse, "select * from gold.customer_value") == []


@installed
def test_predictions_have_a_job_of_their_own_at_night_and_no_sync_makes_them() -> None:
    @dg.asset(key=["staging", "orders"])
    def staged() -> None: ...

    @dg.asset(key=["gold", "told"], deps=[staged], tags=automation.BY_PREDICTION)
    def told() -> None: ...

    @dg.asset(key=["gold", "built"], deps=[staged])
    def built() -> None: ...

    sync = automation.sync_job()
    schedules = automation.schedules(sync, set, lambda feeds: set(), with_predictions=True)
    defs = dg.Definitions([staged, told, built], jobs=[sync], schedules=schedules)
    jobs = {name: set(defs.resolve_job_def(name).asset_layer.selected_asset_keys) for name in ("sync", "predictions")}
    assert jobs == {"sync": {staged.key, built.key}, "predictions": {told.key}}
    assert automation.made_of(["orders"], []).resolve([staged, told, built]) == {staged.key, built.key}
    nightly = defs.resolve_schedule_def("nightly_predictions")
    assert nightly.job_name == "predictions" and nightly.default_status == dg.DefaultScheduleStatus.RUNNING


def test_without_the_extra_or_the_shop_there_are_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = open_warehouse(settings)
    assert predictions.prediction_assets(warehouse, ["gold.fct_orders"]) == []
    monkeypatch.setattr(predictions, "LIBRARIES", ("no_such_library",))
    assert predictions.prediction_assets(warehouse, predictions.READS) == []
