"""The tables of predictions on both engines: as of any day, made again to the cent, and no part of a sync."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

import dagster as dg
import pytest

from c360_assets import automation, predictions, registers
from c360_assets.settings import Settings
from c360_assets.warehouse import Warehouse, insert, open_warehouse
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


def made(warehouse: Warehouse, as_of: str = "") -> None:
    assets = predictions.prediction_assets(warehouse, predictions.READS)
    config = {"ops": {a.node_def.name: {"config": {"as_of": as_of}} for a in assets}}
    assert dg.materialize(assets, run_config=config).success


def rows_of(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    with warehouse.reading() as session:
        return [tuple(map(str, row)) for row in session.rows(sql)]


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
