"""Throughput from S3 to gold, beside the bare limit of the same run.

    python -m bench.throughput [--rows 1000000] [--objects 2000] [--retail FOLDER]

Cases: customer rows in 100 objects; half a year of till lines, a file a day (FOLDER, one CSV a day; generated receipts
where there is none); many small objects. The bare limit is one DuckDB that reads the same local files and writes the final
tables into a file: no S3, no ledger, no refusals, no history of arrival, nothing to resume.

Reported: wall time of `c360 sync` as a user runs it, with its starts of Python, Dagster and dbt; and the work alone: the load
in a process that is warm, and what dbt says its models and tests took.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from bench.parts import Clock, home, land, model_seconds, report, stacked, sync
from c360_assets import local, staging
from c360_assets.feeds import load_feeds
from c360_assets.settings import PROJECT
from c360_assets.warehouse import open_warehouse

CUSTOMERS = """
create table customer_history as
with read as (
  select *, strptime(regexp_extract(filename, '[0-9]{14}'), '%Y%m%d%H%M%S') as valid_from
  from read_csv('FILES', all_varchar = true, filename = true)
), told as (
  select *, hash(first_name, last_name, email, street, city, state, country) as content from read
), changed as (
  select * from told
  qualify content is distinct from lag(content) over (partition by customer_id order by valid_from)
)
select * exclude (content, filename), lead(valid_from) over (partition by customer_id order by valid_from) as valid_to from changed;
create table customer as select * from customer_history where valid_to is null;
"""
RETAIL = """
create table pos_line as
select *, row_number() over (partition by filename, InvoiceNo) as line
from read_csv('FILES', all_varchar = true, filename = true)
where cast(UnitPrice as decimal(18, 4)) > 0 and (cast(Quantity as int) > 0 or InvoiceNo like 'C%');
create table daily_sales_summary as
select InvoiceDate[:10] as sales_date, count(distinct InvoiceNo) filter (InvoiceNo not like 'C%') as count_transactions,
  sum(cast(Quantity as int)) filter (InvoiceNo not like 'C%') as units_sold,
  sum(cast(Quantity as int) * cast(UnitPrice as decimal(18, 4))) as net_revenue
from pos_line group by 1;
"""
RECEIPTS = """
create table pos_line as
select store_id, transaction_id, timestamp, unnest(items) as item, generate_subscripts(items, 1) as line
from read_json('FILES', format = 'unstructured', columns = {
  store_id: 'VARCHAR', transaction_id: 'VARCHAR', timestamp: 'VARCHAR',
  items: 'STRUCT(product_id VARCHAR, price DECIMAL(18, 4), quantity INTEGER)[]'
});
create table daily_sales_summary as
select timestamp[:10] as sales_date, store_id, count(distinct transaction_id) as count_transactions,
  sum(item.quantity) as units_sold, sum(item.quantity * item.price) as net_revenue
from pos_line group by 1, 2;
"""


def floor(sql: str, pattern: str, folder: Path) -> float:
    """Seconds of the bare limit: open, read, write, close."""
    clock = Clock()
    with clock.time("floor"), duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(sql.replace("FILES", pattern))
    return clock.seconds["floor"]


def ours(feed: str, files: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Once as a user runs it, once the load alone in this process."""
    clock = Clock()
    user = home(folder / "user")
    with local.embedded_s3(user):
        land(user, feed, files)
        with clock.time("c360 sync"):
            peak = sync(user)
        models = model_seconds(user)
        counts = open_warehouse(user)
        with counts.reading() as session:
            ((rows,),) = session.rows(f"select count(*) from staging.{feed}")
        warm = home(folder / "warm")
        declared = load_feeds([warm.dbt_project / "models" / "staging"])[feed]
        with clock.time("load"):
            staging.load_new(
                declared, local.landing_bucket(user), open_warehouse(warm), warm.spool,
                objects=user.batch_objects, size=user.batch_bytes,
            )  # fmt: skip
    tests = {name for name in models if name not in _models()}
    built = sum(seconds for name, seconds in models.items() if name not in tests)
    checked = sum(seconds for name, seconds in models.items() if name in tests)
    wall = clock.seconds["c360 sync"]
    return {
        "rows": rows,
        "objects": len(files),
        "wall": wall,
        "parts": {
            "load": clock.seconds["load"],
            "models": round(built, 2),
            "checks": round(checked, 2),
            "starts of Python, Dagster, dbt": round(wall - clock.seconds["load"] - built - checked, 2),
        },
        "slowest": dict(sorted(models.items(), key=lambda kv: -kv[1])[:8]),
        "peak MB": {name: round(mb) for name, mb in peak.mb_of.items()},
    }


def _models() -> set[str]:
    return {path.stem for path in (PROJECT / "dbt" / "models").rglob("*.sql")}


def generate(arguments: Sequence[str], folder: Path) -> list[Path]:
    subprocess.run(
        [sys.executable, "-m", "generator", *arguments, "--out", str(folder)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    return sorted(path for path in folder.rglob("*") if path.is_file())


def receipts(folder: Path, objects: int, receipts_each: int) -> list[Path]:
    """Small objects of receipts, one after another; written here because the bare limit needs a column of one type."""
    chance = random.Random(1)
    folder.mkdir(parents=True)
    files = []
    for number in range(objects):
        texts = []
        for each in range(receipts_each):
            items = ",".join(
                f'{{"product_id":"P{chance.randrange(5000)}","price":{chance.randrange(100, 9999) / 100},"quantity":{chance.randrange(1, 9)}}}'
                for _ in range(5)
            )
            texts.append(
                f'{{"store_id":"s{chance.randrange(20)}","transaction_id":"t{number}-{each}",'
                f'"timestamp":"2026-{1 + number % 12:02}-{1 + number % 28:02}T12:00:00Z","items":[{items}]}}'
            )
        files.append(folder / f"stream-1-{number:06}.json")
        files[-1].write_text("".join(texts))
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--objects", type=int, default=2_000)
    parser.add_argument("--retail", type=Path, default=PROJECT.parent / "shared" / "data" / "pos_online_retail")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="c360-bench-") as temporary:
        work = Path(temporary)
        each = options.rows // 100
        cases: dict[str, tuple[str, str, Callable[[], list[Path]], str]] = {
            f"customers: {options.rows:,} rows in 100 objects": (
                "customers", CUSTOMERS,
                lambda: generate(["customers", "--customers", str(options.rows // 5), "--days", "10", "--interval", "8640",
                                  "--rows-per-file", str(each)], work / "customers"),
                "customers/customers/*.csv",
            ),
            f"pos: {options.objects:,} small objects": (
                "pos", RECEIPTS, lambda: receipts(work / "pos", options.objects, 10), "pos/*.json"
            ),
        }  # fmt: skip
        if options.retail.exists():
            cases["online_retail: half a year, a file a day"] = (
                "online_retail", RETAIL, lambda: sorted(options.retail.glob("*.csv")), ""
            )  # fmt: skip
        results: dict[str, Any] = {}
        for name, (feed, sql, make, pattern) in cases.items():
            files = make()
            folder = work / f"run-{len(results)}"
            folder.mkdir()
            bare = floor(sql, str(work / pattern) if pattern else str(options.retail / "*.csv"), folder)
            found = ours(feed, files, folder)
            busy = found["wall"] - found["parts"]["starts of Python, Dagster, dbt"]
            results[name] = found | {
                "bare limit": bare,
                "wall / bare limit": round(found["wall"] / bare, 1),
                "work / bare limit": round(busy / bare, 1),
                "rows a second, wall": round(found["rows"] / found["wall"]),
                "rows a second, work": round(found["rows"] / busy),
                "objects a second, work": round(found["objects"] / busy, 1),
            }
            print(name, results[name], file=sys.stderr, flush=True)
    report("throughput", results)
    bars: dict[str, dict[str, float]] = {}
    for name, found in results.items():
        bars[name] = found["parts"]
        bars[f"{name.split(':')[0]}: bare limit"] = {"bare limit": found["bare limit"]}
    stacked("throughput", "From S3 to gold: where the time goes", bars, "seconds, 2 cores")


if __name__ == "__main__":
    main()
