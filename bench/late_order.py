"""A moved customer, a late order and a corrected price on a million orders: bringing gold up to date, beside making it anew.

    python -m bench.late_order [--orders 1000000]

Orders of three items each, their customers and products are written into staging as a load would leave them and built once.
Then come three files of one row: each is built, and compared with all tables rebuilt. Judged are the models' own statements, in a
process and on a connection that are warm; beside them stands dbt's time per model, of which about 25 ms are its own. Gold is
what is named in GOLD; the rebuild of the histories below it is counted apart.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.parts import Dbt, home, report, stage_rows
from c360_assets import registers
from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.feeds import load_feeds
from c360_assets.landing import Listed
from c360_assets.settings import PROJECT
from c360_assets.spool import Outcome
from c360_assets.warehouse import Session, insert, open_warehouse

GOLD = ("dim_customer", "dim_product", "fct_order_items", "fct_order_items_changes", "fct_orders", "fct_orders_changes",
        "customer_sales", "product_category_days", "product_category_sales", "top_customers")  # fmt: skip
TABLES = ("fct_order_items", "fct_orders", "customer_sales", "product_category_days")
CUSTOMERS, PRODUCTS, DAYS, ITEMS = 100_000, 5_000, 200, 3


def stage(session: Session, orders: int) -> None:
    """Everything in one batch, an object a feed."""
    at = f"strftime(timestamp '2026-01-01' + to_seconds(i % {DAYS} * 86400), '%Y-%m-%dT%H:%M:%SZ')"
    rows = {
        "customers": (CUSTOMERS, "'C' || i as customer_id, 'City ' || hash(i) % 500 as city, 'Ann' as first_name, '2025-12-01T00:00:00Z' as updated_at"),
        "products": (PRODUCTS, "'P' || i as product_id, 'Thing ' || i as product_name, 'K' || i % 40 as category_id, "
                     "cast(cast(1 + hash(i) % 9999 as decimal(18, 2)) / 100 as decimal(18, 2))::varchar as price, '2025-12-01T00:00:00Z' as updated_at"),
        "orders": (orders, f"'O' || i as order_id, 'C' || hash(i) % {CUSTOMERS} as customer_id, {at} as order_date, "
                   "'completed' as order_status, 'EUR' as currency, '2026-08-01T00:00:00Z' as updated_at"),
        "order_items": (orders * ITEMS, f"'I' || i as order_item_id, 'O' || i // {ITEMS} as order_id, 'P' || hash(i, 1) % {PRODUCTS} as product_id, "
                        "cast(1 + hash(i, 2) % 5 as varchar) as quantity, '2.50' as price, '2026-08-01T00:00:00Z' as updated_at"),
    }  # fmt: skip
    stage_rows(session, rows)


# What comes late: a feed and its one row.
CHANGES = {
    "a moved customer": [("customers", {"customer_id": "C7", "city": "Elsewhere", "first_name": "Ann", "updated_at": "2026-03-01T00:00:00Z"})],
    "a late order": [
        ("orders", {"order_id": "late", "customer_id": "C9", "order_date": "2026-02-02T10:00:00Z", "order_status": "completed",
                    "currency": "EUR", "updated_at": "2026-08-02T00:00:00Z"}),
        ("order_items", {"order_item_id": "late", "order_id": "late", "product_id": "P3", "quantity": "2", "price": "2.50",
                         "updated_at": "2026-08-02T00:00:00Z"}),
    ],
    "a corrected price": [
        ("products", {"product_id": "P11", "product_name": "Thing 11", "category_id": "K11", "price": "1.11", "updated_at": "2025-12-02T00:00:00Z"}),
    ],
}  # fmt: skip


def late(session: Session, name: str) -> None:
    feeds = load_feeds([PROJECT / "dbt" / "models" / "staging"])
    batch, now = registers.next_batch(session)
    with session.transaction():
        for feed, row in CHANGES[name]:
            key = f"stream_data/{feed}/{name.replace(' ', '-')}.csv"
            values: dict[str, Any] = row | {"_key": key, "_etag": "l", "_row": 1, "_loaded_at": now, "_batch": batch}
            insert(session, f"staging.{feed}", dict.fromkeys(values, ""), [tuple(values.values())])
            registers.write_registers(
                session,
                feeds[feed],
                [Outcome(Listed(datetime(2026, 9, 1), key, "l", 1), "loaded", None, 1)],
                batch,
                now,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--orders", type=int, default=1_000_000)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="c360-bench-"))
    whole = ("--select", *(f"+{name}" for name in GOLD), "--exclude-resource-type", "test")
    gold = ("--select", *GOLD, "--exclude-resource-type", "test")
    found: dict[str, Any] = {}
    try:
        settings = home(work / "home")
        warehouse = open_warehouse(settings)
        assert isinstance(warehouse, DuckDBWarehouse)
        os.environ.update(warehouse.dbt_environment())
        with warehouse.writing("bench") as session:
            registers.prepare_tables(session, list(load_feeds([PROJECT / "dbt" / "models" / "staging"]).values()))
            stage(session, options.orders)
        dbt = Dbt(work)
        dbt.build(*whole)
        for name in CHANGES:
            with dbt.session() as session:
                late(session, name)
            found[name] = taken(dbt, dbt.build(*whole))
        before = digests(dbt)
        dbt.build(*gold, "--full-refresh")
        same = digests(dbt) == before
        rebuilt = taken(dbt, dbt.build(*whole, "--full-refresh"))
        same = same and digests(dbt) == before
        dbt.close()
    finally:
        shutil.rmtree(work)
    for each in found.values():
        for part in rebuilt:
            each[f"rebuild / {part}"] = round(rebuilt[part] / each[part], 1)
    report("late_order", {"orders": options.orders, "equal to the rebuild": same, "rebuild": rebuilt, **found})


def taken(dbt: Dbt, seconds: dict[str, float]) -> dict[str, float]:
    """What the last build took: gold's statements, and by dbt's clock gold and everything."""
    return {
        "gold statements s": round(sum(dbt.statements[model] for model in GOLD), 3),
        "gold s": round(sum(seconds[model] for model in GOLD), 3),
        "clean to gold s": round(sum(seconds.values()), 3),
    }


def digests(dbt: Dbt) -> list[Any]:
    with dbt.session() as session:
        return [session.rows(f"select count(*), bit_xor(hash(t)) from gold.{table} as t") for table in TABLES]


if __name__ == "__main__":
    main()
