"""Half a year of real till lines: each accounted for, each day's sales confirmed by SQLite, the same whatever the order."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest

from c360_assets.landing import Bucket
from tests.parts import Platform, settings_at

SALES = (
    "select cast(sales_date as varchar), store_id, currency, count_transactions, count_lines, units_sold, gross_revenue, "
    "refunds, net_revenue from gold.daily_sales_summary order by 1, 2, 3"
)

ONLY_TILL = ("--exclude-resource-type", "test", "--select", "+daily_sales_summary")


@pytest.fixture(scope="module")
def days(shared: Path) -> list[Path]:
    return sorted((shared / "data" / "pos_online_retail").glob("*.csv"))


def by_sqlite(files: Iterable[Path]) -> list[tuple[object, ...]]:
    """Daily sales by another tool, in thousandths: SQLite has no exact decimals."""
    database = sqlite3.connect(":memory:")
    database.execute("create table line (invoice, day, quantity integer, price integer)")
    for file in files:
        with file.open(newline="", encoding="utf-8") as text:
            database.executemany(
                "insert into line values (?, ?, ?, ?)",
                (
                    (r["InvoiceNo"], r["InvoiceDate"][:10], int(r["Quantity"]), int(Decimal(r["UnitPrice"]) * 1000))
                    for r in csv.DictReader(text)
                ),
            )
    found = database.execute(
        """
        with sale as (select * from line where quantity > 0 and price > 0 and invoice not like 'C%' and invoice not like 'A%'),
        refund as (select * from line where invoice like 'C%' and quantity < 0 and price > 0),
        sold as (select day, count(distinct invoice) t, count(*) l, sum(quantity) u, sum(quantity * price) g from sale group by day),
        given as (select day, sum(-quantity * price) r from refund group by day),
        every as (select day from sold union select day from given)
        select every.day, coalesce(t, 0), coalesce(l, 0), coalesce(u, 0), coalesce(g, 0), coalesce(r, 0)
        from every left join sold using (day) left join given using (day) order by 1
        """
    ).fetchall()
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
