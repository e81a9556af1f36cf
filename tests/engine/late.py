"""What comes late: a moved customer, an order, a price, a record that was landed corrected, weeks of a till, a wrong clock.

Only what they touch may be written anew. So every row of gold that is refreshed by its changes is marked before they come
in a column that nothing is made of, and those that lose their mark are held against the keys that were touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from c360_assets import quarantine
from c360_assets.quarantine import Choice
from generator.faults import csv_body
from generator.objects import GeneratedObject
from generator.shop import HEADERS
from tests.engine import analytics
from tests.parts import Platform

# What no other table is made of (`silent`, or of a table of which none is made), and what a mark of it is.
MARKS = {
    "gold.fct_orders": ("source, order_id", "customer_match", "'marked'"),
    "gold.fct_order_items": ("source, order_item_id", "customer_match", "'marked'"),
    "gold.fct_pos_lines": ("store_id, transaction_id, line", "customer_match", "'marked'"),
    "gold.customer_sales": ("customer_id, currency", "count_purchases", "-1"),
    "gold.product_category_days": ("sales_date, category_id, currency", "count_purchases", "-1"),
    "core.inventory": ("store_id, product_id", "units_sold", "-1"),
}
Keys = dict[str, set[tuple[Any, ...]]]
AHEAD = date(2031, 5, 4)
# A store that sells every day for so many weeks, and what one sale brought where it was another.
WEEKS, USUAL, ODD = 12, 100, {30: 420, 45: 7, 60: 260}


def refused() -> GeneratedObject:
    """Two orders whose dates can be read in two ways."""
    rows = [[order, "CUST_00001", "03/04/2026", "5", "", "paid", "card"] for order in ("HELD", "STAYS")]
    reasons = dict.fromkeys((1, 2), "bad_timestamp:order_date")
    at = datetime(2026, 1, 11, 12)
    return GeneratedObject(
        f"orders/orders_{at:%Y%m%d%H%M%S}.csv", csv_body(list(HEADERS["orders"]), rows), 0, at, reasons
    )


def objects(customer: str, product: str) -> list[GeneratedObject]:
    """The customer, the order and its item, the price; a receipt a day up to today, and one that is dated ahead."""
    today = datetime.now(UTC).date()
    first = today - timedelta(7 * WEEKS)
    nets = {first + timedelta(n): ODD.get(n, USUAL + n % 7 * 10) for n in range(7 * WEEKS)} | {today: 1, AHEAD: 900}
    receipts = [
        {
            "store_id": "WEEKS", "transaction_id": f"T{day}", "timestamp": f"{datetime.combine(day, time(0)):%Y-%m-%dT%H:%M:%SZ}",
            "items": [{"product_id": "PROD_OF_WEEKS", "price": net, "quantity": 1}], "payment_method": "card",
        } | ({"customer_id": customer} if day == AHEAD else {})
        for day, net in nets.items()
    ]  # fmt: skip
    tables = {
        "customers/customer": (["customer_id", "city"], [[customer, "Elsewhere"]]),
        "products/products": (["product_id", "price"], [[product, "1.11"]]),
        "orders/orders": (["order_id", "customer_id", "order_date"], [["LATE", "CUST_LATE", "2026-01-11"]]),
        "order_items/order_items": (["order_item_id", "order_id", "product_id", "quantity", "price"],
                                    [["LATE", "LATE", "PROD_LATE", "2", "2.50"]]),
    }  # fmt: skip
    at = datetime(2026, 2, 10)
    found = [
        GeneratedObject(f"{name}_{at:%Y%m%d%H%M%S}.csv", csv_body(*table), 0, at) for name, table in tables.items()
    ]
    return [*found, GeneratedObject("pos/weeks", "".join(map(json.dumps, receipts)).encode(), 0, at)]


def members(platform: Platform) -> tuple[str, str]:
    """A customer who bought and a product that was sold, both known."""
    ((customer, product),) = platform.rows(
        "select min(case when customer_match = 'version' then customer_id end), "
        "min(case when product_match = 'version' then product_id end) from gold.fct_order_items where source = 'orders'"
    )
    return customer, product


def correct(platform: Platform) -> None:
    """Lands one of the refused orders with a date that can be read; the other is tried again, and stays refused."""
    with platform.warehouse.reading() as session:
        entries = quarantine.entries(session, Choice(feed="orders", reason="bad_timestamp"))
    held, stays = (e for name in ("HELD", "STAYS") for e in entries if f'"{name}"' in e.raw)
    quarantine.fix(platform.warehouse, platform.bucket, platform.feeds, [held], {"order_date": "2026-01-10"})
    again = quarantine.replay(platform.warehouse, platform.bucket, platform.feeds, [stays], platform.settings.spool)
    assert again.cleaning == 1


@contextmanager
def marked(platform: Platform) -> Iterator[Keys]:
    """Gives the keys of the rows that the body writes anew, known when it ends; then what was marked is as it was."""
    written: Keys = {}
    with platform.warehouse.writing("test") as session:
        for table, (_, column, mark) in MARKS.items():
            session.execute(f"create table {_kept(table)} as select * from {table}")
            session.execute(f"update {table} set {column} = {mark}")
    yield written
    with platform.warehouse.writing("test") as session:
        for table, (key, column, mark) in MARKS.items():
            written[table] = set(session.rows(f"select {key} from {table} where {column} is distinct from {mark}"))
            now = table.split(".")[1]
            same = " and ".join(f"{now}.{c} is not distinct from kept.{c}" for c in key.split(", "))
            session.execute(
                f"update {table} set {column} = kept.{column} from {_kept(table)} as kept "
                f"where {now}.{column} = {mark} and {same}"
            )
            session.execute(f"drop table {_kept(table)}")


def _kept(table: str) -> str:
    return f"staging.kept_{table.split('.')[1]}"


def touched(platform: Platform, customer: str, product: str) -> Keys:
    """The keys that what came late touches, told from the facts as they are now: no order, item or line left another.

    A fact that names another version, and says nothing else anew, touches nothing that is made of it.
    """
    orders = {(o["source"], o["order_id"]): o for o in platform.table("gold.fct_orders")}
    new = {("orders", "LATE"), ("orders", "HELD")}
    changed = new | {key for key, order in orders.items() if order["customer_id"] == customer}
    items = [
        item for item in platform.table("gold.fct_order_items")
        if (item["source"], item["order_id"]) in changed or item["product_id"] == product
    ]  # fmt: skip
    lines = [
        line for line in platform.table("gold.fct_pos_lines")
        if line["customer_id"] == customer or line["product_id"] == product or line["store_id"] == "WEEKS"
    ]  # fmt: skip
    sales = {(o["customer_id"], o["currency"]) for key, o in orders.items() if key in new}
    days = {(i["order_day"], i["category_id"], i["currency"]) for i in items if (i["source"], i["order_id"]) in new}
    for line in lines:
        if line["store_id"] == "WEEKS":
            sales.add((line["customer_id"], line["currency"]))
            days.add((line["sales_date"], line["category_id"], line["currency"]))
    return {
        "gold.fct_orders": changed,
        "gold.fct_order_items": {(item["source"], item["order_item_id"]) for item in items},
        "gold.fct_pos_lines": {(line["store_id"], line["transaction_id"], line["line"]) for line in lines},
        "gold.customer_sales": sales & _keys(platform, "gold.customer_sales"),
        "gold.product_category_days": days & _keys(platform, "gold.product_category_days"),
        "core.inventory": {("WEEKS", "PROD_OF_WEEKS")},
    }


def _keys(platform: Platform, table: str) -> set[tuple[Any, ...]]:
    return set(platform.rows(f"select {MARKS[table][0]} from {table}"))


def assert_anomalies(platform: Platform) -> None:
    """Of all days that are over, and as of one of them: neither the day that goes on nor one that is dated ahead."""
    ((newest,),) = platform.rows("select max(loaded_at) from staging.object_ledger")
    net = {
        (row["store_id"], row["currency"], row["sales_date"]): row["net_revenue"]
        for row in platform.table("gold.daily_sales_summary")
    }
    assert max(day for *_, day in net) == AHEAD
    over = newest.date() - timedelta(1)
    for day, of in ((over, ""), (over - timedelta(40), f"_as_of(timestamp '{over - timedelta(40)} 00:00:00')")):
        wanted = analytics.anomalies(net, day)
        found = platform.rows(
            f"select sales_date, store_id, currency, actual, expected, count_days_before, direction, score from gold.anomalies{of}"
        )
        scores = {tuple(row[:-1]): row[-1] for row in found}
        assert scores.keys() == wanted.keys() and len(scores) == len(found) > 0
        assert all(abs(scores[key] - wanted[key]) < 0.011 for key in wanted)
    assert {row[0] for row in wanted} < {row[0] for row in analytics.anomalies(net, over)}
