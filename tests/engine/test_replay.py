"""A refused record that is taken after all, in gold: what it touches changes, nothing else does, and a rebuild gives the same."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from c360_assets import instants, quarantine
from c360_assets.landing import Bucket
from c360_assets.quarantine import Choice
from c360_assets.settings import PROJECT
from tests.engine import late
from tests.engine.test_star import TABLES, contents
from tests.parts import Platform, at_length, project_with, settings_at

MODELS = (
    "--exclude-resource-type", "test", "--select", *(f"+{table.split('.')[1]}" for table in TABLES), "+quarantine",
    "dim_customer", "+product_category_sales", "fct_orders_changes", "fct_order_items_changes", "fct_pos_lines_changes",
)  # fmt: skip
CATEGORIES = "select sales_date, category_id, category_name, count_purchases, net_revenue from gold.product_category_sales{} order by 1, 2"
FEED = "models/staging/orders.yml"
OBJECTS = {
    "customers": "customer_id,city,updated_at\nanna,Rome,2026-01-01\nbert,Oslo,2026-01-01\nbert,Bonn,2026-02-01\n",
    "categories": "category_id,category_name,updated_at\nC1,Cups,2026-01-01\nC2,Books,2026-01-01\nC2,Novels,2026-01-22\n",
    "products": "product_id,category_id,cost,updated_at\ncup,C1,1,2026-01-01\nbook,C2,1,2026-01-01\nbook,C1,1,2026-02-01\nvase,C1,1,2026-01-25\n",
    "orders": "order_id,customer_id,order_date,updated_at,op\n"
    "A,anna,2026-01-20,2026-01-20,I\nX,bert,2026-01-21,2026-01-21,X\nB,bert,2026-02-21,2026-02-21,I\nC,anna,2026-01-21,2026-01-21,I\n",
    "order_items": "order_item_id,order_id,product_id,quantity,price,updated_at\n"
    "A1,A,cup,1,2,2026-01-20\nA2,A,vase,1,3,2026-01-20\nX1,X,book,2,10,2026-01-21\nX2,X,cup,1,2,2026-01-21\nB1,B,book,1,10,2026-02-21\nC1,C,cup,1,2,2026-01-21\n",
    "pos": '{"store_id": "s", "transaction_id": "t", "customer_id": "bert", "timestamp": "2026-01-21T09:00:00Z", '
    '"items": [{"product_id": "cup", "price": 2, "quantity": 1}]}',
}  # fmt: skip


def test_a_replayed_order_changes_its_day_its_customer_and_its_products_and_nothing_else(
    tmp_path: Path, bucket: Bucket
) -> None:
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=PROJECT / "dbt")
    for feed, body in OBJECTS.items():
        platform.put("a.json" if feed == "pos" else "a.csv", body.encode(), feed)
        platform.load(feed)
    platform.build(*MODELS)
    refused = "select reasons from clean.quarantine"
    assert platform.rows(refused) == [('["bad_operation"]',)]
    assert platform.rows("select order_day from gold.fct_order_items where order_id = 'X'") == [(None,), (None,)]

    ((known_at,),) = platform.rows("select max(loaded_at) from staging.object_ledger")
    before = platform.rows(CATEGORIES.format(""))

    # X means that an order is there, too: nobody had declared it.
    declared = (PROJECT / "dbt" / FEED).read_text().replace("upsert: [I, U]", "upsert: [I, U, X]")
    mended = Platform(platform.settings, bucket, project=project_with(tmp_path, {FEED: declared}, shop=True))
    with late.marked(mended) as written:
        with mended.warehouse.reading() as session:
            chosen = quarantine.entries(session, Choice(feed="orders"))
        quarantine.replay(mended.warehouse, bucket, mended.feeds, chosen, mended.settings.spool)
        mended.build(*MODELS)
    day = date(2026, 1, 21)
    assert mended.rows(refused) == []
    assert written == {
        "gold.fct_orders": {("orders", "X")},
        "gold.fct_order_items": {("orders", "X1"), ("orders", "X2")},
        "gold.fct_pos_lines": set(),
        "gold.customer_sales": {("bert", "USD")},
        "gold.product_category_days": {(day, "C1", "USD"), (day, "C2", "USD")},
        "core.inventory": set(),
    }
    # It stands at its own time: bert still lived in Oslo, and the book was a book.
    assert mended.rows(
        "select d.city, o.amount from gold.fct_orders as o inner join gold.dim_customer as d using (customer_key) where order_id = 'X'"
    ) == [("Oslo", 22)]
    assert mended.rows("select count_purchases, net_revenue from gold.customer_sales where customer_id = 'bert'") == [
        (3, 34)
    ]
    assert mended.rows(
        f"select category_id, count_purchases, net_revenue from gold.product_category_days where sales_date = date '{day}' order by 1"
    ) == [("C1", 3, 6), ("C2", 1, 20)]
    # What the categories had sold is told as of the day, when nobody knew of a vase or of novels, and by what was known then.
    shown = CATEGORIES.format(f"_as_of(timestamp '{day}'{{}})")
    cups, others = (day, "C1", "Cups"), (day - timedelta(1), None, None, 1, 3)
    assert mended.rows(shown.format("")) == [
        (day - timedelta(1), "C1", "Cups", 1, 2), others, (*cups, 3, 6), (day, "C2", "Books", 1, 20),
    ]  # fmt: skip
    assert mended.rows(shown.format(f", timestamp '{known_at}'")) == [
        (day - timedelta(1), "C1", "Cups", 1, 2), others, (*cups, 2, 4),
    ]  # fmt: skip
    assert mended.rows(CATEGORIES.format("")) != before
    assert mended.rows(CATEGORIES.format(f"_as_of(timestamp '9999-12-30', timestamp '{known_at}')")) == before

    stands = contents(mended)
    mended.build("--full-refresh", *MODELS)
    assert contents(mended) == stands


LINES = ("--exclude-resource-type", "test", "--select", "+pos_line", "+quarantine")
DAYS = ("--exclude-resource-type", "test", "--select", "+anomalies")


@at_length
def test_a_receipt_that_is_tried_again_leaves_its_sound_lines_known_since_they_came(
    tmp_path: Path, bucket: Bucket
) -> None:
    """Two lines are taken; the third is once its price may bear a currency, and the fourth later still."""
    lines = [{"product_id": f"p{n}", "price": price, "quantity": 1} for n, price in enumerate([1, 2, "4 EUR", "8 USD"])]
    receipt = {
        "store_id": "s",
        "transaction_id": "t",
        "customer_id": "anna",
        "timestamp": "2026-01-21T09:00:00Z",
        "items": lines,
    }
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=PROJECT / "dbt")
    platform.put("a.json", json.dumps(receipt).encode(), "pos")
    platform.load("pos")
    platform.build(*LINES)
    declared = (PROJECT / "dbt" / "models" / "staging" / "pos.yml").read_text()
    decided: list[datetime] = []
    for units in ("EUR", "EUR|USD"):
        folder = tmp_path / f"rules {len(decided)}"
        strip = f"strip: {{unit_price: ' ({units})'}}\n              map:"
        files = {"models/staging/pos.yml": declared.replace("map:", strip, 1)}
        platform = Platform(platform.settings, bucket, project=project_with(folder, files, shop=True))
        with platform.warehouse.reading() as session:
            chosen = quarantine.entries(session, Choice(feed="pos"))
        quarantine.replay(platform.warehouse, bucket, platform.feeds, chosen, platform.settings.spool)
        ((at,),) = platform.rows("select max(decided_at) from staging.quarantine_decisions")
        decided.append(at)
        platform.build(*LINES)
    ((came,),) = platform.rows("select loaded_at from staging.object_ledger")

    def believed() -> list[list[tuple[object, ...]]]:
        sums = "select sum(amount) from core.pos_line_as_of(timestamp '{}')"
        known = "select line, known_at from clean.pos_line_rows order by line"
        return [platform.rows(known), *(platform.rows(sums.format(at)) for at in (came, *decided))]

    stands = believed()
    assert stands == [list(enumerate([came, came, *decided], 1)), [(3,)], [(7,)], [(15,)]]
    platform.build("--full-refresh", *LINES)
    assert believed() == stands


def test_which_day_it_is_for_the_tills_their_objects_tell_whatever_else_comes(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a day of the tills; the morning after brings customers. No day is over by that, nor by making all anew."""
    tuesday = datetime(2026, 3, 10, 10)
    before = [tuesday - timedelta(weeks=weeks) for weeks in range(6)]
    receipts = [
        {"store_id": "s", "transaction_id": f"t{at:%m%d}", "timestamp": f"{at:%Y-%m-%dT09:00:00Z}",
         "items": [{"product_id": "cup", "price": 1 if at == tuesday else 100, "quantity": 1}]}
        for at in before
    ]  # fmt: skip
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=PROJECT / "dbt")

    def comes(at: datetime, feed: str, name: str, body: str) -> list[tuple[object, ...]]:
        monkeypatch.setattr(instants, "now", lambda: at)
        platform.put(name, body.encode(), feed)
        platform.load(feed)
        platform.build(*DAYS)
        return platform.rows("select sales_date, actual from gold.anomalies")

    assert comes(tuesday, "pos", "a.json", "".join(map(json.dumps, receipts))) == []
    wednesday = tuesday + timedelta(hours=22)
    assert comes(wednesday, "customers", "a.csv", "customer_id,city,updated_at\nanna,Rome,2026-01-01\n") == []
    platform.build("--full-refresh", *DAYS)
    assert platform.rows("select sales_date, actual from gold.anomalies") == []
    receipts = [{"store_id": "s2", "transaction_id": "t", "timestamp": "2026-03-11T07:00:00Z", "items": []}]
    assert comes(wednesday, "pos", "b.json", "".join(map(json.dumps, receipts))) == [(tuesday.date(), 1)]
    known = f"gold.anomalies_as_of(timestamp '{tuesday.date()}', timestamp '{{}}')"
    for at, told in ((wednesday - timedelta(minutes=1), []), (wednesday + timedelta(minutes=1), [(1,)])):
        assert platform.rows(f"select actual from {known.format(at)}") == told


def test_a_click_of_a_wrong_clock_does_not_empty_what_happened_lately(tmp_path: Path, bucket: Bucket) -> None:
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=PROJECT / "dbt")
    now = datetime.now(UTC)
    times = [now - timedelta(minutes=5), now - timedelta(hours=20), now - timedelta(days=3), datetime(2031, 5, 4)]
    clicks = [
        {"event_id": f"e{n}", "event_type": "page_view", "session_id": "s", "timestamp": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        for n, at in enumerate(times)
    ]
    platform.put("a.json", "".join(map(json.dumps, clicks)).encode(), "clickstream")
    platform.load("clickstream")
    platform.build("--exclude-resource-type", "test", "--select", "+vw_real_time")
    assert platform.rows("select count(*) from gold.real_time_metrics") == [(4,)]
    shown = platform.rows("select happened_minute from gold.vw_real_time order by 1")
    assert shown == [(at.replace(second=0, microsecond=0, tzinfo=None),) for at in (times[1], times[0])]
