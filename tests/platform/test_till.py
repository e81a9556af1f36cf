"""Receipts to daily sales: nested documents and flat lines, refunds, cancelled lines, copies and replacements."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from c360_assets import quarantine
from c360_assets.feeds import load_feeds
from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from tests.parts import UNIT_TESTS, BuildFailed, Platform, at_length, forget_manifest, lacking, project_with

NOON = "2026-03-01T12:00:00Z"


def item(product: str = "p1", price: object = 2.5, quantity: object = 2, **more: object) -> dict[str, object]:
    return {"product_id": product, "price": price, "quantity": quantity} | more


def receipt(transaction: str, *items: object, **more: object) -> dict[str, Any]:
    """A receipt of store s1 at noon of the first of March, sound but for what is given."""
    sound = {"store_id": "s1", "city": "Oslo", "transaction_id": transaction, "timestamp": NOON, "refund": None}
    return sound | {"items": list(items) or [item()], "total_amount": 5, "payment_method": "card"} | more


def refund(of: str | None, amount: object, at: str | None = NOON, **more: object) -> dict[str, object]:
    return {"transaction_id": of, "refund_amount": amount, "refund_method": "cash", "timestamp": at} | more


EVERY_SHAPE: list[dict[str, Any]] = [
    receipt("t1", item(None, None, None), item(price=0, quantity=-1), item(price="x", quantity={"a": 1}), item()),
    receipt("", item(), store_id=None, timestamp="soon"),
    {"store_id": "s1", "transaction_id": "t3"},
    receipt("t4", items="none"),
    receipt("t5", refund="all of it"),
    receipt("t5", refund=json.dumps(refund("t1", 1)), items=[item(price="1_000")]),
    {**receipt("t5", refund=refund("t5", 1, "1.1.2026"), cancel_item={"product_id": "p1"}), "items": []},
    receipt("t6", item(price=1e11), item(price=99999999999, quantity=99999999), item(canceled="perhaps"), "x"),
    receipt("t7", refund=refund("t1", -1)),
]


def put(platform: Platform, name: str, *receipts: dict[str, Any] | str, zipped: bool = False) -> str:
    """As Firehose writes: one after another, gzip or not, no ending in the name."""
    body = "".join(r if isinstance(r, str) else json.dumps(r) for r in receipts).encode()
    return platform.put(f"2026/03/01/12/{name}", gzip.compress(body, mtime=0) if zipped else body, feed="pos")


def sales(platform: Platform) -> list[tuple[Any, ...]]:
    return platform.rows(
        "select cast(sales_date as varchar), store_id, currency, count_transactions, count_lines, units_sold, "
        "gross_revenue, refunds, net_revenue from gold.daily_sales_summary order by 1, 2, 3"
    )


def day(date: str, *numbers: str | int, store: str = "s1", currency: str = "USD") -> tuple[Any, ...]:
    """transactions, lines, units, gross, refunds, net"""
    return (date, store, currency, *(n if isinstance(n, int) else Decimal(n) for n in numbers))


def accounting(platform: Platform, unit: str) -> tuple[Any, ...]:
    (counts,) = platform.rows(
        "select sum(received), sum(accepted), sum(quarantined), sum(duplicates) "
        f"from clean.accounting where unit = '{unit}'"
    )
    return counts


def reasons(platform: Platform) -> list[tuple[Any, ...]]:
    return platform.rows("select line, reasons from clean.quarantine order by _row, line nulls first")


# --- what counts


def test_receipts_one_after_another_become_lines_and_days(platform: Platform) -> None:
    put(platform, "a", receipt("t1", item(), item("p2", "0.10", 3)), receipt("t2", item(), item()), zipped=True)
    put(platform, "b", receipt("t3", timestamp="2026-03-02T00:30:00+02:00"), receipt("t4", store_id="s2"))
    platform.sync("pos")
    assert sales(platform) == [
        day("2026-03-01", 3, 5, "11", "20.3", "0", "20.3"),
        day("2026-03-01", 1, 1, "2", "5", "0", "5", store="s2"),
    ]
    assert accounting(platform, "row") == (4, 4, 0, 0)
    assert accounting(platform, "line") == (6, 6, 0, 0)
    assert platform.rows("select count(*), count(distinct received_at) from staging.json_raw_data") == [(4, 1)]


def test_currencies_are_kept_apart(platform: Platform) -> None:
    put(platform, "a", receipt("t1"), receipt("t2", currency="EUR"), receipt("t3", currency="euro"))
    platform.sync("pos")
    assert sales(platform) == [
        day("2026-03-01", 1, 1, "2", "5", "0", "5", currency="EUR"),
        day("2026-03-01", 1, 1, "2", "5", "0", "5"),
    ]
    assert reasons(platform) == [(1, '["bad_currency"]')]


def test_a_cancelled_line_counts_nothing(platform: Platform) -> None:
    put(
        platform,
        "a",
        receipt("t1", item(), item("p2", canceled=True)),
        receipt("t2", item(canceled=True)),
        # Named afterwards: of two lines of the product the last one.
        receipt("t3", item("p1", 1), item("p1", 2), item("p2", 4), cancel_item={"product_id": "p1"}),
        # It is marked already, so that nothing else is cancelled.
        receipt("t4", item("p1", 8, canceled=True), item("p1", 16), cancel_item={"product_id": "p1"}),
    )
    platform.sync("pos")
    assert platform.rows("select transaction_id, line from core.pos_line where kind = 'cancelled' order by 1, 2") == [
        ("t1", 2),
        ("t2", 1),
        ("t3", 2),
        ("t4", 1),
    ]
    assert sales(platform) == [day("2026-03-01", 3, 4, "8", "47", "0", "47")]


def test_an_item_cancelled_that_the_receipt_does_not_have_holds_up_the_receipt(platform: Platform) -> None:
    put(
        platform,
        "a",
        receipt("t1", item(), item("p2"), cancel_item={"product_id": "p9"}),
        receipt("t2", cancel_item={"product_id": "p1", "transaction_id": "t1"}),
    )
    platform.sync("pos")
    assert reasons(platform) == [(n, '["unknown_cancelled_item"]') for n in (1, 2, 1)]
    assert sales(platform) == []
    assert accounting(platform, "row") == (2, 0, 2, 0)


def test_refunds_count_on_their_day_whatever_they_refund(platform: Platform) -> None:
    put(
        platform,
        "a",
        receipt("t1", refund=refund("t1", 2)),
        receipt("t2", refund=refund("t1", "1.5", "2026-03-02T10:00:00Z")),
        {**receipt("t3", refund=refund("t0", 7, "2026-03-03T10:00:00Z")), "items": []},
        {**receipt("t4", refund=refund(None, 100, None)), "items": None},
    )
    platform.sync("pos")
    assert sales(platform) == [
        day("2026-03-01", 2, 2, "4", "10", "102", "-92"),
        day("2026-03-02", 0, 0, "0", "0", "1.5", "-1.5"),
        day("2026-03-03", 0, 0, "0", "0", "7", "-7"),
    ]
    assert platform.rows("select transaction_id from checks.pos_line_refunds_name_a_sale order by 1") == [
        ("t3",),
        ("t4",),
    ]
    kept = "select table_name from information_schema.tables where table_schema = 'checks'"
    assert ("pos_line_refunds_within_sale",) not in platform.rows(kept)
    put(platform, "b", {**receipt("t5", refund=refund("t1", 2)), "items": []})
    platform.sync("pos")
    assert platform.rows("select refund_of, refunded, sold from checks.pos_line_refunds_within_sale") == [
        ("t1", Decimal("5.5"), Decimal(5))
    ]


def test_every_reason_against_a_line_is_told(platform: Platform) -> None:
    put(platform, "a", *EVERY_SHAPE)
    platform.sync("pos")
    lost = '"missing_key:store_id","missing_key:transaction_id"'
    assert reasons(platform) == [
        (1, '["missing_product_id","missing_price","missing_quantity"]'),
        (2, '["price_not_positive","quantity_not_positive"]'),
        (3, '["bad_price","bad_quantity"]'),
        (1, f'[{lost},"bad_event_time"]'),
        (None, '["missing_event_time","no_items"]'),
        (None, '["bad_items"]'),
        (0, '["bad_refund"]'),
        (0, '["bad_refund"]'),
        (1, '["bad_price"]'),
        (None, '["unknown_cancelled_item"]'),
        (0, '["bad_event_time"]'),
        (1, '["bad_price"]'),
        (2, '["amount_too_large"]'),
        (3, '["bad_cancelled"]'),
        (4, '["missing_product_id","missing_price","missing_quantity"]'),
        (0, '["refund_not_positive"]'),
    ]
    assert sales(platform) == [day("2026-03-01", 3, 3, "6", "15", "0", "15")]
    # Of t1, t5 and t7 something was taken, so the receipts stand.
    assert accounting(platform, "row") == (9, 3, 6, 0)
    assert accounting(platform, "line") == (16, 3, 13, 0)
    rejected = platform.rows("select count(*), count(line), count(raw) from clean.retail_pos_rejected")
    assert rejected == [(16, 13, 16)]


def test_a_broken_receipt_is_one_refused_row_and_the_next_is_read(platform: Platform) -> None:
    put(platform, "a", receipt("t1"), '{"store_id": "s1", "trans', receipt("t2"))
    platform.sync("pos")
    assert sales(platform) == [day("2026-03-01", 2, 2, "4", "10", "0", "10")]
    assert reasons(platform) == [(None, '["broken_json"]')]
    assert accounting(platform, "row") == (3, 2, 1, 0)


# --- copies and replacements


def test_receipts_that_come_again_count_once(platform: Platform) -> None:
    first, second = receipt("t1", item(), item()), receipt("t2")
    put(platform, "a", first, first)
    put(platform, "b", second, first)
    platform.sync("pos")
    put(platform, "c", first, second)
    platform.sync("pos")
    assert sales(platform) == [day("2026-03-01", 2, 3, "6", "15", "0", "15")]
    assert accounting(platform, "row") == (6, 2, 0, 4)
    assert accounting(platform, "line") == (10, 3, 0, 7)
    assert platform.rows("select count(*) from core.pos_line_replaced") == [(0,)]


def test_the_later_object_wins_line_by_line_and_the_loser_is_listed(platform: Platform) -> None:
    old = put(platform, "a", receipt("t1", item(), item("p2", 1)))
    platform.sync("pos")
    # The second line is another one now, and on another day.
    new = put(platform, "b", receipt("t1", item(), item("p2", 3), timestamp="2026-03-01T12:00:00Z"))
    platform.sync("pos")
    assert sales(platform) == [day("2026-03-01", 1, 2, "4", "11", "0", "11")]
    assert platform.rows("select line, amount, _key, winner_key from core.pos_line_replaced") == [
        (2, Decimal(2), old, new)
    ]
    # The object that won is corrected: without its second line the old one stands again.
    put(platform, "b", receipt("t1", item()))
    platform.sync("pos")
    assert sales(platform) == [day("2026-03-01", 1, 2, "4", "7", "0", "7")]
    assert platform.rows("select count(*) from core.pos_line_replaced") == [(0,)]


def test_lines_as_they_were_known_at_any_instant(platform: Platform) -> None:
    if platform.warehouse.engine != "duckdb":
        pytest.skip("fakesnow has no table functions")
    believed = {}
    # A line that a later object replaces, and that stands again when this object is replaced in its turn.
    for name, *items in (("a", item("p2", 1)), ("b", item("p2", 3)), ("b",)):
        put(platform, name, receipt("t1", item(), *items))
        platform.sync("pos")
        ((known_at,),) = platform.rows("select max(loaded_at) from staging.object_ledger")
        believed[known_at] = platform.rows("select line, product_id, amount from core.pos_line order by line")
    assert [len(lines) for lines in believed.values()] == [2, 2, 2]
    assert len({repr(lines) for lines in believed.values()}) == 2
    for known_at, lines in believed.items():
        known = f"core.pos_line_as_of(timestamp '{known_at}')"
        assert platform.rows(f"select line, product_id, amount from {known} order by line") == lines


def test_a_line_that_moves_to_another_day_leaves_the_old_one(platform: Platform) -> None:
    put(platform, "a", receipt("t1"))
    platform.sync("pos")
    put(platform, "b", receipt("t1", timestamp="2026-03-05T12:00:00Z"))
    platform.sync("pos")
    assert sales(platform) == [day("2026-03-05", 1, 1, "2", "5", "0", "5")]


def test_an_object_cut_in_half_and_then_whole_leaves_no_trace(platform: Platform) -> None:
    whole = "".join(json.dumps(receipt(f"t{n}")) for n in range(6))
    put(platform, "a", whole[: len(whole) // 2 + 40])
    platform.sync("pos")
    assert reasons(platform) == [(None, '["broken_json"]')]
    put(platform, "a", whole)
    platform.sync("pos")
    assert reasons(platform) == []
    assert sales(platform) == [day("2026-03-01", 6, 6, "12", "30", "0", "30")]
    assert accounting(platform, "line")[0] == 9


def test_a_rebuild_gives_the_same_lines_and_days(platform: Platform) -> None:
    put(platform, "a", receipt("t1"), receipt("t2", refund=refund("t1", 1)))
    platform.sync("pos")
    put(platform, "b", receipt("t1", item("p1", 4)), receipt("t3", currency="EUR"))
    put(platform, "a", receipt("t2", refund=refund("t1", 2)))
    platform.sync("pos")
    lines = "select store_id, transaction_id, line, kind, amount, _key from core.pos_line order by 1, 2, 3"
    before = sales(platform), platform.rows(lines)
    platform.build("--full-refresh")
    assert (sales(platform), platform.rows(lines)) == before


# --- flat lines


HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


EVERY_LINE = [
    "1,A,,2,2026-03-01 08:00:00,1.255,17.0,UK",
    "2,A,,1,2026-03-01 08:00:00,1,,UK",
    "1,B,,0,2026-03-01 08:00:00,0,17.0,UK",
    "1,A,,2,2026-03-01 08:00:00,1.255,17.0,UK",
    "C3,A,,-2,2026-03-01 09:00:00,1.255,17.0,UK",
    "C3,A,,2,2026-03-01 09:00:00,1.255,17.0,UK",
    "A4,A,,1,2026-03-01 09:00:00,-11,,UK",
    "5,A,,-1,2026-03-01 09:00:00,1,,UK",
]


def flat(platform: Platform, name: str, *lines: str) -> str:
    return platform.put(name, (HEADER + "\n".join(lines) + "\n").encode(), feed="online_retail")


def test_flat_lines_are_numbered_in_their_invoice_refused_ones_included(platform: Platform) -> None:
    flat(
        platform,
        "2026-03-01.csv",
        *EVERY_LINE,
    )
    platform.sync("online_retail")
    assert platform.rows(
        "select transaction_id, line, kind, quantity, amount, customer_id from core.pos_line order by 1, 2"
    ) == [
        ("1", 1, "sale", Decimal(2), Decimal("2.51"), "17"),
        ("1", 3, "sale", Decimal(2), Decimal("2.51"), "17"),
        ("2", 1, "sale", Decimal(1), Decimal(1), None),
        ("C3", 1, "refund", Decimal(2), Decimal("2.51"), "17"),
    ]
    assert reasons(platform) == [
        (None, '["price_not_positive","quantity_not_positive"]'),
        (None, '["quantity_not_negative"]'),
        (None, '["adjustment","price_not_positive"]'),
        (None, '["quantity_not_positive"]'),
    ]
    assert accounting(platform, "row") == (8, 4, 4, 0)
    assert sales(platform) == [day("2026-03-01", 2, 3, "5", "6.02", "2.51", "3.51", store="online", currency="GBP")]


def test_a_line_that_was_lost_holds_back_gold(platform: Platform) -> None:
    put(platform, "a", receipt("t1"))
    put(platform, "c", receipt("t3"))
    platform.sync("pos")
    with platform.warehouse.writing("test") as session:
        session.execute("delete from core.pos_line_log")
    put(platform, "b", receipt("t2"))
    platform.load("pos")
    with pytest.raises(BuildFailed) as failure:
        platform.build()
    assert failure.value.failed == ["pos_line_log_as_many_as_accepted"]
    assert sales(platform) == [day("2026-03-01", 2, 2, "4", "10", "0", "10")]
    platform.build("--full-refresh")
    assert sales(platform) == [day("2026-03-01", 3, 3, "6", "15", "0", "15")]


def test_a_line_that_stands_twice_is_found(platform: Platform) -> None:
    put(platform, "a", receipt("t1"))
    platform.sync("pos")
    with platform.warehouse.writing("test") as session:
        session.execute("insert into core.pos_line_log select * from core.pos_line_log")
    with pytest.raises(BuildFailed) as failure:
        platform.build_all()
    assert failure.value.failed == ["pos_line_log_one_standing_row"]


def test_days_that_are_not_their_lines_are_found(platform: Platform) -> None:
    put(platform, "a", receipt("t1"))
    platform.sync("pos")
    with platform.warehouse.writing("test") as session:
        session.execute("update gold.daily_sales_summary set units_sold = 3")
    with pytest.raises(BuildFailed) as failure:
        platform.build_all()
    assert failure.value.failed == ["daily_sales_summary_equals_lines"]


@lacking("temporary tables under a database's name")
def test_the_unit_tests_beside_the_models_hold(platform: Platform) -> None:
    platform.build("--exclude-resource-type", "test")  # dbt takes the types of the inputs from the tables
    built = platform.build("--select", "gold", "--resource-type", "model", "--resource-type", UNIT_TESTS)
    assert {
        "a_day_counts_sales_and_refunds_and_no_cancelled_line",
        "currencies_and_stores_are_never_added_up",
        "a_day_names_the_objects_whose_lines_stand",
    } <= set(built)


def test_text_that_no_warehouse_can_store_refuses_its_receipt_alone(platform: Platform) -> None:
    poison = json.dumps(receipt("t1", city="X")).replace('"X"', '"\\ud800"')
    twice = json.dumps(receipt("t2")).replace('"price": 2.5', '"price": 2.5, "price": 3')
    put(platform, "a", poison, twice, receipt("t3"))
    platform.sync("pos")
    assert reasons(platform) == [(None, '["lone_surrogate"]'), (None, '["duplicate_column:price"]')]
    assert sales(platform) == [day("2026-03-01", 1, 1, "2", "5", "0", "5")]


def declared(platform: Platform, text: str, **changed: str) -> None:
    """The feed as it was declared when something went wrong, and mended later: both in a project of the test's own."""
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    (platform.project / "models" / "staging" / "online_retail.yml").write_text(text)
    platform.feeds = load_feeds([platform.project / "models" / "staging"])
    forget_manifest(platform.project)


def replay(platform: Platform, **choice: Any) -> None:
    with platform.warehouse.reading() as session:
        found = quarantine.entries(session, quarantine.Choice(**choice))
    assert found
    quarantine.replay(platform.warehouse, platform.bucket, platform.feeds, found, platform.settings.spool)
    platform.build()


LINES = [f"1,A,,1,2026-03-01 08:00:00,{price},17,UK" for price in (1, 10, 100, 1000)]
NUMBERED = "select line, amount from core.pos_line order by 1"


@at_length
def test_lines_read_after_all_are_numbered_after_those_that_were_there(
    tmp_path: Path, settings: Settings, bucket: Bucket
) -> None:
    platform = Platform(settings, bucket, project=project_with(tmp_path, {}))
    text = (platform.project / "models" / "staging" / "online_retail.yml").read_text()
    declared(platform, text, **{"{name: country, data_type: varchar}": "{name: country, data_type: varchar}\n          - {name: till, data_type: varchar}",
                                "quantity, invoicedate, unitprice]": "quantity, invoicedate, unitprice, till]"})  # fmt: skip
    flat(platform, "a.csv", *LINES)
    platform.sync("online_retail")
    assert accounting(platform, "row") == (4, 0, 4, 0)
    declared(platform, text)
    replay(platform, row=1)
    replay(platform, feed="online_retail")
    assert platform.rows(NUMBERED) == [(n + 1, Decimal(10**n)) for n in range(4)]
    flat(platform, "b.csv", *LINES)
    platform.sync("online_retail")
    assert platform.rows(NUMBERED) == [(n + 1, Decimal(10**n)) for n in range(4)]


def test_a_replay_under_a_mended_declaration_leaves_no_refusal_behind(
    tmp_path: Path, settings: Settings, bucket: Bucket
) -> None:
    platform = Platform(settings, bucket, project=project_with(tmp_path, {}))
    text = (platform.project / "models" / "staging" / "online_retail.yml").read_text()
    declared(platform, text, **{"transaction_id: invoiceno": "transaction_id: description"})
    flat(platform, "a.csv", *LINES[:2], *(line.replace("1,A", "2,A", 1) for line in LINES[2:]))
    platform.sync("online_retail")
    assert accounting(platform, "row") == (4, 0, 4, 0)
    declared(platform, text)
    replay(platform, feed="online_retail")
    assert platform.rows("select transaction_id, line from core.pos_line order by 1, 2") == [
        ("1", 1), ("1", 2), ("2", 1), ("2", 2),
    ]  # fmt: skip
    assert accounting(platform, "row") == (4, 4, 0, 0)
    assert reasons(platform) == []


def test_flat_lines_are_numbered_under_the_names_that_they_are_kept_by(
    tmp_path: Path, settings: Settings, bucket: Bucket
) -> None:
    """Store and transaction as stripped: 1.0 and 1 are one transaction, and neither of its lines takes the other's place."""
    platform = Platform(settings, bucket, project=project_with(tmp_path, {}))
    text = (platform.project / "models" / "staging" / "online_retail.yml").read_text()
    declared(
        platform,
        text,
        **{
            'strip: {customer_id: "[.]0$"}': 'strip: {customer_id: "[.]0$", transaction_id: "[.]0$"}',
            "{store_id: online, currency": "{currency",
            "{transaction_id: invoiceno": "{store_id: country, transaction_id: invoiceno",
        },
    )
    flat(
        platform,
        "a.csv",
        "1.0,A,,1,2026-03-01 08:00:00,1,17.0,UK",
        "1,A,,1,2026-03-01 08:00:00,10,.0,UK",
        "1,A,,1,2026-03-01 08:00:00,100,17,FR",
    )
    platform.sync("online_retail")
    assert platform.rows(
        "select store_id, transaction_id, line, amount, customer_id from core.pos_line order by 1, 3"
    ) == [
        ("FR", "1", 1, Decimal(100), "17"),
        ("UK", "1", 1, Decimal(1), "17"),
        ("UK", "1", 2, Decimal(10), None),
    ]
