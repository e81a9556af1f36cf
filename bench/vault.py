"""The vault and its checks at the volumes of the system that had one before: 10,000 customers, 5,000 products, 100,000 transactions.

    python -m bench.vault [--times 10]

Rows are written into staging as a load would leave them; dbt builds clean, vault and the vault's checks from nothing, in a process
that is warm, and then a batch of a hundredth more. Once at those volumes and once at `times` as much. Seconds are dbt's own per node.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench.parts import Dbt, home, report, stage_rows
from c360_assets import registers
from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.feeds import load_feeds
from c360_assets.settings import PROJECT
from c360_assets.warehouse import Session, open_warehouse

CUSTOMERS, PRODUCTS, TRANSACTIONS = 10_000, 5_000, 100_000
# What the system before said of itself.
STATED_MINUTES = "5 to 10"


def stage(session: Session, times: int, first: int = 0, share: int = 1) -> None:
    """All of it, or from row `first` on one in `share`, whose customers and products are of before."""
    customers, products = CUSTOMERS * times, PRODUCTS * times
    count = TRANSACTIONS * times // share
    of = f"(i + {first})"
    hour = "'2026-02-01T00:00:00Z'" if first else "'2026-01-01T00:00:00Z'"
    rows = {
        "customers": (customers // share, f"'C' || {of} as customer_id, 'City ' || hash({of}) % 500 as city, 'Ann' as first_name, "
                      f"'ann' || {of} || '@example.org' as email, {hour} as updated_at"),
        "products": (products // share, f"'P' || {of} as product_id, 'Thing ' || {of} as product_name, 'K' || i % 40 as category_id, "
                     f"'1.50' as price, {hour} as updated_at"),
        "transactions": (count, f"'T' || {of} as transaction_id, 'C' || hash({of}) % {customers} as customer_id, "
                         f"'P' || hash({of}, 1) % {products} as product_id, '2026-01-02T00:00:00Z' as order_date, "
                         f"cast(1 + hash({of}, 2) % 5 as varchar) as quantity, '1.50' as unit_price, 'completed' as order_status, {hour} as updated_at"),
    }  # fmt: skip
    stage_rows(session, rows, f"from-{first}.csv")


def measured(times: int) -> dict[str, Any]:
    work = Path(tempfile.mkdtemp(prefix="c360-bench-"))
    try:
        warehouse = open_warehouse(home(work / "home"))
        assert isinstance(warehouse, DuckDBWarehouse)
        os.environ.update(warehouse.dbt_environment())
        with warehouse.writing("bench") as session:
            registers.prepare_tables(session, list(load_feeds([PROJECT / "dbt" / "models" / "staging"]).values()))
            stage(session, times)
        dbt = Dbt(work)
        models = ("--select", "+vault", "--exclude-resource-type", "test")
        checks = ("--select", "vault", "--resource-type", "test")
        first = dbt.build(*models), dbt.build(*checks)
        with dbt.session() as session:
            stored = sum(session.rows(f"select count(*) from vault.{name}")[0][0] for name in _tables(session))
            stage(session, times, TRANSACTIONS * times, 100)
        later = dbt.build(*models), dbt.build(*checks)
        with dbt.session() as session:
            told = [session.rows(f"select count(*), sum(hash(t)) from vault.{name} as t") for name in _tables(session)]
        dbt.build("--select", "vault", "--full-refresh", "--exclude-resource-type", "test")
        with dbt.session() as session:
            same = told == [
                session.rows(f"select count(*), sum(hash(t)) from vault.{name} as t") for name in _tables(session)
            ]
        dbt.close()
    finally:
        shutil.rmtree(work)
    return {
        "rows in": (CUSTOMERS + PRODUCTS + TRANSACTIONS) * times,
        "rows of hubs, links and satellites": stored,
        "clean, vault and checks s": _sum(*first),
        "vault and checks s": _sum({n: s for n, s in first[0].items() if _is_of_vault(n)}, first[1]),
        "a hundredth more: clean, vault and checks s": _sum(*later),
        "equal to the rebuild": same,
    }


def _tables(session: Session) -> list[str]:
    names = sorted(name.split(".")[1] for name in session.tables() if name.startswith("vault."))
    return [name for name in names if _is_of_vault(name) and not name.startswith(("pit_", "bridge_"))]


def _is_of_vault(node: str) -> bool:
    return node.startswith(("hub_", "link_", "sat_", "eff_", "pit_", "bridge_"))


def _sum(*seconds: dict[str, float]) -> float:
    return round(sum(sum(each.values()) for each in seconds), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    small, large = measured(1), measured(options.times)
    growth = {key: round(large[key] / small[key], 2) for key in small if key.endswith(" s") or key.startswith("rows")}
    report(
        "vault", {"the system before, minutes": STATED_MINUTES, "small": small, "large": large, "large / small": growth}
    )


if __name__ == "__main__":
    main()
