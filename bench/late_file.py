"""One late file on millions of till lines: what it costs to bring gold up to date, beside making gold anew.

    python -m bench.late_file [--lines 5000000]

The lines are written into staging as a load would leave them (they are not what is measured) and built once. Then a file
of one past day lands late. Times are dbt's own per model, in a process that is warm: the models that are touched, from
clean to gold, after the late file; the same models rebuilt; and gold alone in both ways. Checks are counted apart.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from pathlib import Path

from bench.parts import Dbt, home, report, stacked
from c360_assets import registers
from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.feeds import load_feeds
from c360_assets.landing import Listed
from c360_assets.settings import PROJECT
from c360_assets.spool import Outcome
from c360_assets.warehouse import insert, open_warehouse

DAYS = 200
MODELS = ("+daily_sales_summary",)


def stage(warehouse: DuckDBWarehouse, lines: int) -> None:
    """Receipts of flat lines over DAYS days, one object a day, in one batch."""
    feeds = load_feeds([PROJECT / "dbt" / "models" / "staging"])
    feed = feeds["online_retail"]
    with warehouse.writing("bench") as session:
        registers.prepare_tables(session, list(feeds.values()))
        batch, now = registers.next_batch(session)
        with session.transaction():
            session.execute(
                f"""
                insert into staging.online_retail by name
                select
                    cast(100000 + i // 5 as varchar) as invoiceno, 'P' || (hash(i) % 5000) as stockcode,
                    cast(1 + hash(i, 1) % 9 as varchar) as quantity,
                    cast(cast(1 + hash(i, 2) % 999 as decimal(18, 2)) / 100 as decimal(18, 2))::varchar as unitprice,
                    strftime(date '2026-01-01' + cast(i * {DAYS} // {lines} as int), '%Y-%m-%d') || ' 12:00:00' as invoicedate,
                    (hash(i // 5) % 100000)::varchar || '.0' as customerid, 'UK' as country,
                    'stream_data/online_retail/' || lpad(cast(i * {DAYS} // {lines} as varchar), 3, '0') || '.csv' as _key,
                    'e' || cast(i * {DAYS} // {lines} as varchar) as _etag, i as _row,
                    cast(? as timestamp) as _loaded_at, cast(? as varchar) as _batch
                from range({lines}) as r(i)
                """,
                [now, batch],
            )
            outcomes = [
                Outcome(Listed(now, f"stream_data/online_retail/{d:03}.csv", f"e{d}", 1), "loaded", None, 0)
                for d in range(DAYS)
            ]
            registers.write_registers(session, feed, outcomes, batch, now)


def late(warehouse: DuckDBWarehouse, rows: int) -> None:
    """A file of one past day, of receipts that were not there."""
    feed = load_feeds([PROJECT / "dbt" / "models" / "staging"])["online_retail"]
    chance = random.Random(1)
    with warehouse.writing("bench") as session:
        batch, now = registers.next_batch(session)
        with session.transaction():
            found = [
                (f"9{n // 5:06}", f"P{chance.randrange(5000)}", "2", "1.25", "2026-02-11 09:00:00", "stream_data/online_retail/late.csv",
                 "late", n, now, batch)
                for n in range(rows)
            ]  # fmt: skip
            columns = (
                "invoiceno",
                "stockcode",
                "quantity",
                "unitprice",
                "invoicedate",
                "_key",
                "_etag",
                "_row",
                "_loaded_at",
                "_batch",
            )
            insert(session, "staging.online_retail", dict.fromkeys(columns, ""), found)
            outcome = Outcome(Listed(now, "stream_data/online_retail/late.csv", "late", 1), "loaded", None, rows)
            registers.write_registers(session, feed, [outcome], batch, now)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--late", type=int, default=1_000, help="lines of the late file")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="c360-bench-"))
    import os

    try:
        settings = home(work / "home")
        warehouse = open_warehouse(settings)
        assert isinstance(warehouse, DuckDBWarehouse)
        os.environ.update(warehouse.dbt_environment())
        stage(warehouse, options.lines)
        dbt = Dbt(work)
        first = dbt.build("--select", *MODELS, "--exclude-resource-type", "test")
        dbt.close()
        late(warehouse, options.late)
        after = dbt.build("--select", *MODELS, "--indirect-selection", "buildable")
        dbt.close()
        sales = "select * from gold.daily_sales_summary order by all"
        with warehouse.reading() as session:
            found = session.rows(sales)
        anew = dbt.build("--select", *MODELS, "--full-refresh", "--exclude-resource-type", "test")
        dbt.close()
        with warehouse.reading() as session:
            same = session.rows(sales) == found
        gold = dbt.build("--select", "daily_sales_summary", "--full-refresh", "--exclude-resource-type", "test")
        dbt.close()
    finally:
        shutil.rmtree(work)
    tests = {name: seconds for name, seconds in after.items() if name not in anew}
    touched = {name: seconds for name, seconds in after.items() if name in anew}
    ways = {"late file": touched, "rebuild": anew}
    report(
        "late_file",
        {
            "lines": options.lines,
            "lines of the late file": options.late,
            "equal to the rebuild": same,
            "gold, late file, s": round(touched["daily_sales_summary"], 3),
            "gold, rebuild, s": round(gold["daily_sales_summary"], 3),
            "gold: rebuild / late file": round(gold["daily_sales_summary"] / touched["daily_sales_summary"], 1),
            "clean to gold, late file, s": round(sum(touched.values()), 3),
            "clean to gold, rebuild, s": round(sum(anew.values()), 3),
            "clean to gold: rebuild / late file": round(sum(anew.values()) / sum(touched.values()), 1),
            "first build, s": round(sum(first.values()), 3),
            "checks, s": round(sum(tests.values()), 3),
            "slowest after the late file": dict(
                sorted(((n, round(s, 3)) for n, s in after.items()), key=lambda kv: -kv[1])[:8]
            ),
        },
    )
    layers = {"clean": 0.0, "core": 0.0, "gold": 0.0}
    bars = {}
    for way, seconds in ways.items():
        parts = dict(layers)
        for name, value in seconds.items():
            (path,) = (PROJECT / "dbt" / "models").rglob(f"{name}.sql")
            parts[path.parent.name] = parts.get(path.parent.name, 0.0) + value
        bars[way] = parts
    stacked("late_file", f"One late file on {options.lines:,} till lines", bars, "seconds in dbt's models, 2 cores")


if __name__ == "__main__":
    main()
