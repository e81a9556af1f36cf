"""Half a year of real till lines: each accounted for, each day's sales confirmed by SQLite, the same whatever the order."""

from __future__ import annotations

import csv
import os
import random
import sqlite3
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest

from c360_assets.landing import Bucket
from c360_assets.settings import PROJECT, Settings
from tests.parts import Platform, at_length, on_both, settings_at

SALES = (
    "select cast(sales_date as varchar), store_id, currency, count_transactions, count_lines, units_sold, gross_revenue, "
    "refunds, net_revenue from gold.daily_sales_summary order by 1, 2, 3"
)

# (what we say, what SQLite says of the files)
TOTALS = [
    ("select kind, count(*), cast(sum(amount) * 1000 as bigint) from gold.fct_pos_lines group by kind",
     "select 'sale', count(*), sum(amount) from sale union all select 'refund', count(*), sum(amount) from refund"),
    ("select substr(cast(sales_date as varchar), 1, 7), cast(sum(net_revenue) * 1000 as bigint) from gold.daily_sales_summary group by 1",
     "select substr(day, 1, 7), sum(amount) from (select day, amount from sale union all select day, -amount from refund) group by 1"),
    ("select customer_id, count_purchases, cast(gross_revenue * 1000 as bigint), cast(refunds * 1000 as bigint) from gold.customer_sales",
     "select customer, count(distinct bought), sum(sold), sum(given) from (select customer, invoice as bought, amount as sold, 0 as given "
     "from sale union all select customer, null, 0, amount from refund) where customer is not null group by 1"),
    ("select customer_id, revenue_rank from gold.top_customers where revenue_rank <= 10",
     "select customer, rank() over (order by sum(amount) desc) from (select customer, amount from sale union all "
     "select customer, -amount from refund) where customer is not null group by 1 order by 2 limit 10"),
    ("select count(*), count(distinct transaction_id), cast(sum(amount) * 1000 as bigint) from gold.fct_pos_lines "
     "where kind = 'sale' and customer_match = 'none'",
     "select count(*), count(distinct invoice), sum(amount) from sale where customer is null"),
    ("select product_id, cast(sum(quantity) as bigint), cast(sum(amount) * 1000 as bigint) from gold.fct_pos_lines where kind = 'sale' group by 1",
     "select product, sum(quantity), sum(amount) from sale group by 1"),
    ("select product_id, cast(sum(quantity) as bigint), cast(sum(amount) * 1000 as bigint) from gold.fct_pos_lines where kind = 'refund' group by 1",
     "select product, -sum(quantity), sum(amount) from refund group by 1"),
    ("select extract(hour from sold_at), count(distinct transaction_id) from gold.fct_pos_lines where kind = 'sale' group by 1",
     "select cast(substr(at, 12, 2) as integer), count(distinct invoice) from sale group by 1"),
    ("select transaction_id, cast(sum(amount) * 1000 as bigint) from gold.fct_pos_lines where kind = 'sale' group by 1 order by 2 desc limit 10",
     "select invoice, sum(amount) from sale group by 1 order by 2 desc limit 10"),
    ("select product_id, cast(stock as bigint) from core.inventory",
     "select product, 100 - sum(quantity) from (select product, quantity from sale union all select product, quantity from refund) group by 1"),
    ("select cast(cohort_month as varchar), months_since, count_active from gold.cohort_retention",
     "select first || '-01', 12 * (substr(month, 1, 4) - substr(first, 1, 4)) + substr(month, 6) - substr(first, 6), count(*) from "
     "(select distinct customer, substr(day, 1, 7) as month from sale) join (select customer, min(substr(day, 1, 7)) as first from sale "
     "where customer is not null group by 1) using (customer) group by 1, 2"),
    ("select customer_id, days_since_purchase, count_purchases from gold.customer_segments",
     "select customer, cast(julianday((select max(day) from sale where customer is not null)) - julianday(max(day)) as integer), "
     "count(distinct invoice) from sale where customer is not null group by 1"),
    ("select other_product_id, count_both from gold.basket_affinity where product_id = '85123A'",
     "with basket as (select distinct invoice, product from sale), small as (select invoice from basket group by 1 having count(*) <= 50) "
     "select o.product, count(*) from basket as o join basket as p using (invoice) join small using (invoice) "
     "where p.product = '85123A' and o.product > p.product group by 1 having count(*) >= 2"),
    ("select reasons, count(*) from clean.pos_line_rows where reasons <> '[]' and _key not like '%again-%' group by 1",
     "select '[\"price_not_positive\"' || case when quantity <= 0 then ',\"quantity_not_positive\"' else '' end || ']', count(*) "
     "from line where price <= 0 group by 1"),
]  # fmt: skip

ONLY_TILL = ("--exclude-resource-type", "test", "--select", "+daily_sales_summary")
WHOLE_GOLD = (*ONLY_TILL, "+top_customers", "+cohort_retention", "+basket_affinity", "+customer_segments", "+inventory")

GOLD = (
    "fct_pos_lines", "daily_sales_summary", "customer_sales", "top_customers", "cohort_retention", "basket_affinity", "customer_segments",
)  # fmt: skip


@pytest.fixture(scope="module")
def days(shared: Path) -> list[Path]:
    return sorted((shared / "data" / "pos_online_retail").glob("*.csv"))


def in_sqlite(files: Iterable[Path]) -> sqlite3.Connection:
    """The lines in another tool, prices in thousandths: SQLite has no exact decimals."""
    database = sqlite3.connect(":memory:")
    database.execute("create table line (invoice, product, quantity integer, at, day, price integer, customer)")
    for file in files:
        with file.open(newline="", encoding="utf-8") as text:
            database.executemany(
                "insert into line values (?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        r["InvoiceNo"], r["StockCode"], int(r["Quantity"]), r["InvoiceDate"], r["InvoiceDate"][:10],
                        int(Decimal(r["UnitPrice"]) * 1000), r["CustomerID"].removesuffix(".0") or None,
                    )
                    for r in csv.DictReader(text)
                ),
            )  # fmt: skip
    database.executescript(
        """
        create table sale as select *, quantity * price as amount from line
        where quantity > 0 and price > 0 and invoice not like 'C%' and invoice not like 'A%';
        create table refund as select *, -quantity * price as amount from line
        where invoice like 'C%' and quantity < 0 and price > 0;
        """
    )
    return database


def by_sqlite(files: Iterable[Path]) -> list[tuple[object, ...]]:
    """Daily sales by another tool."""
    found = in_sqlite(files).execute(
        """
        with sold as (select day, count(distinct invoice) t, count(*) l, sum(quantity) u, sum(amount) g from sale group by day),
        given as (select day, sum(amount) r from refund group by day),
        every as (select day from sold union select day from given)
        select every.day, coalesce(t, 0), coalesce(l, 0), coalesce(u, 0), coalesce(g, 0), coalesce(r, 0)
        from every left join sold using (day) left join given using (day) order by 1
        """
    )
    milli = Decimal(1000)
    return [
        (day, "online", "GBP", t, lines, Decimal(units), Decimal(g) / milli, Decimal(r) / milli, Decimal(g - r) / milli)
        for day, t, lines, units, g, r in found
    ]


def test_every_line_of_half_a_year_is_accounted_for_and_every_day_confirmed(
    days: list[Path], platform: Platform
) -> None:
    for file in days:
        platform.put(file.name, file.read_bytes(), feed="online_retail")
    platform.sync("online_retail")
    assert platform.rows(
        "select count(*), sum(received), sum(accepted), sum(quarantined), sum(duplicates) from clean.accounting"
    ) == [(167, 245_903, 244_425, 1_478, 0)]
    assert platform.rows("select kind, count(*) from core.pos_line group by 1 order by 1") == [
        ("refund", 4_494),
        ("sale", 239_931),
    ]
    assert dict(platform.rows("select reasons, count(*) from clean.retail_pos_rejected group by 1")) == {
        '["price_not_positive"]': 720,
        '["price_not_positive","quantity_not_positive"]': 758,
    }
    assert platform.rows(SALES) == by_sqlite(days)
    assert platform.rows("select count(*) from core.pos_line_replaced") == [(0,)]
    assert platform.rows(
        "select count(*), count(distinct customer_id) from core.pos_line where customer_id like '%.0'"
    ) == [(0, 0)]


def fed_in_halves(platform: Platform, objects: list[tuple[str, Path]]) -> None:
    """The whole of gold, of the first half of the objects and then of the other too."""
    half = len(objects) // 2
    for part in (objects[:half], objects[half:]):
        for name, day in part:
            platform.put(name, day.read_bytes(), feed="online_retail")
        platform.load("online_retail")
        platform.build(*WHOLE_GOLD)


def shuffled_with_copies(days: list[Path], seed: int) -> tuple[list[tuple[str, Path]], list[Path]]:
    """(name, file) of each day and of eight that come twice, in any order; and which these are."""
    chance = random.Random(seed)
    twice = chance.sample(days, 8)
    objects = [*((day.name, day) for day in days), *((f"again-{day.name}", day) for day in twice)]
    chance.shuffle(objects)
    return objects, twice


def assert_totals(platform: Platform, database: sqlite3.Connection) -> None:
    for ours, theirs in TOTALS:
        found = sorted(tuple(map(str, row)) for row in platform.rows(ours))
        assert found == sorted(tuple(map(str, row)) for row in database.execute(theirs)), ours
        assert found


@at_length
def test_days_in_any_order_and_some_twice_come_to_the_totals_that_sqlite_confirms(
    days: list[Path], tmp_path: Path, bucket: Bucket
) -> None:
    objects, twice = shuffled_with_copies(days, 11)
    shuffled = Platform(settings_at(tmp_path), bucket, project=PROJECT / "dbt")
    fed_in_halves(shuffled, objects)
    assert_totals(shuffled, in_sqlite(days))
    # A line that came twice counts once, whichever came first; what is refused is refused twice.
    copies, refused = (
        in_sqlite(twice).execute("select count(*), count(case when price <= 0 then 1 end) from line").fetchone()
    )
    assert shuffled.rows(
        "select sum(received), sum(accepted), sum(quarantined), sum(duplicates) from clean.accounting"
    ) == [(245_903 + copies, 244_425, 1_478 + refused, copies - refused)]


@on_both
def test_the_same_days_in_order_and_shuffled_with_copies_give_the_same_gold_on_both_engines(
    days: list[Path], tmp_path: Path, bucket: Bucket, on_snowflake: Settings
) -> None:
    """DuckDB takes them in order, fakesnow as they come."""
    in_order = Platform(settings_at(tmp_path), bucket, project=PROJECT / "dbt")
    fed_in_halves(in_order, [(day.name, day) for day in days])
    other = Bucket(bucket.client, f"{bucket.name}-as-they-come", bucket.prefix)
    other.ensure()
    as_they_come = Platform(on_snowflake, other, project=PROJECT / "dbt")
    fed_in_halves(as_they_come, shuffled_with_copies(days, 12)[0])
    assert_totals(as_they_come, in_sqlite(days))
    for name in GOLD:
        found, wanted = (
            {repr({k: str(v) for k, v in row.items()}) for row in platform.table(f"gold.{name}")}
            for platform in (as_they_come, in_order)
        )
        assert sorted(found - wanted)[:2] == sorted(wanted - found)[:2], name
        assert wanted


@at_length
def test_days_late_twice_renamed_and_cut_come_to_the_same_gold(
    days: list[Path], tmp_path: Path, bucket: Bucket
) -> None:
    """One day after the other, with what goes wrong in between."""
    some = days if os.environ.get("C360_BIG_TESTS") else days[:10]
    platform = Platform(settings_at(tmp_path), bucket).begin()
    sent: list[tuple[str, bytes]] = [(f.name, f.read_bytes()) for f in some]
    late = sent.pop(3)
    twice = sent[1]
    whole = sent[5]
    sent[5] = (whole[0], whole[1][: len(whole[1]) // 2])
    sent.insert(7, whole)
    sent += [twice, ("again-" + sent[2][0], sent[2][1]), late]
    for name, body in sent:
        platform.put(name, body, feed="online_retail")
        platform.load("online_retail")
        platform.build(*ONLY_TILL)
    assert platform.rows(SALES) == by_sqlite(some)
    copies = len(sent[2][1].splitlines()) - 1
    assert platform.rows(
        "select received, accepted, duplicates + quarantined from clean.accounting where _key like '%again%'"
    ) == [(copies, 0, copies)]
    lines = sum(len(file.read_bytes().splitlines()) - 1 for file in some)
    assert platform.rows(
        "select count(*) + (select count(*) from clean.pos_line_rows where reasons <> '[]' and _key not like '%again%') "
        "from core.pos_line"
    ) == [(lines + half_refused(platform, whole[0]),)]


def half_refused(platform: Platform, name: str) -> int:
    """Lines that the cut version had and that were refused there: they stand in no table but this one."""
    (found,) = platform.rows(
        "select count(*) from clean.pos_line_rows as r inner join clean.superseded_objects as s using (_feed, _key, _etag) "
        f"where r.reasons <> '[]' and r._key like '%{name}'"
    )
    return int(found[0])
