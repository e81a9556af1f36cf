"""The vault in runs of what has something new: each leaves the rest alone, and the vault has all the same what came."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from c360_assets.landing import Bucket
from tests.parts import BuildFailed, Platform, at_length, project_with, settings_at

HEAD = "customer_id,city,updated_at\n"
ORDER = "order_id,customer_id,order_date,order_amount,op\n"
ITEM = "order_item_id,order_id,product_id,quantity,price,op\n"
GHOST = "0" * 64
# Two steps: (feed, name, text). What is overwritten withdraws what it had said.
CAME = [
    [
        ("customers", "customer_20260101000000.csv", f"{HEAD}C1,Ulm,2026-01-01T00:00:00Z\nC2,Ulm,2026-01-01T00:00:00Z\n"),
        ("products", "products_20260101000000.csv", "product_id,product_name,price\nP1,Lamp,1.00\nP2,Bulb,2.00\n"),
        ("orders", "orders_20260101000000.csv", f"{ORDER}O1,C1,2026-01-01,1.00,I\nO2,C2,2026-01-02,1.00,I\nO3,,2026-01-03,1.00,I\nO4,C1,2026-01-04,1.00,I\n"),
        ("orders", "orders_20260102000000.csv", f"{ORDER}O5,C2,2026-01-05,1.00,I\n"),
        ("order_items", "order_items_20260101000000.csv", f"{ITEM}L1,O1,P1,1,1.00,I\nL2,O2,P2,1,2.00,I\nL3,O3,P1,1,1.00,I\n"),
        ("transactions", "transactions_20260101000000.csv", "transaction_id,customer_id,order_date,product_id,quantity,unit_price\nT1,C2,2026-01-06,P2,1,2.00\n"),
    ],
    [
        ("customers", "customer_20260102000000.csv", f"{HEAD}C1,Rome,2026-01-02T00:00:00Z\n"),
        ("products", "products_20260102000000.csv", "product_id,product_name,price\nP1,Lamp,3.00\n"),
        ("orders", "orders_20260102000000.csv", f"{ORDER}O6,C2,2026-01-05,1.00,I\n"),
        ("orders", "orders_20260103000000.csv", f"{ORDER}O1,C2,2026-01-01,1.00,U\nO4,,,,D\n"),
        ("order_items", "order_items_20260102000000.csv", f"{ITEM}L2,O1,P2,1,2.00,U\nL3,,,,,D\n"),
    ],
]  # fmt: skip
OF_ORDER = "order_hk in (select order_hk from vault.hub_order where order_id = '{}')"
# {damage: the check that finds it}
DAMAGE = {
    "delete from vault.hub_customer where customer_id = 'C1'": "hub_customer_filled",
    "delete from vault.hub_product where product_id = 'P1'": "hub_product_filled",
    "delete from vault.hub_order where order_id = 'O4'": "hub_order_filled",
    f"delete from vault.hub_order where order_hk = '{GHOST}'": "hub_order_filled",
    "insert into vault.hub_customer select * from vault.hub_customer where customer_id = 'C1'": "hub_customer_unique",
    # A pair that holds no more, and one of nobody.
    f"delete from vault.link_customer_order where {OF_ORDER.format('O4')}": "link_customer_order_filled",
    f"delete from vault.link_customer_order where customer_hk = '{GHOST}'": "link_customer_order_filled",
    f"delete from vault.link_order_product where {OF_ORDER.format('O2')}": "link_order_product_filled",
    "delete from vault.link_order_product where line_id = 'T1'": "link_order_product_filled",
    "update vault.link_order_product set product_hk = 'nobody' where line_id = 'L1'": "link_order_product_at_home",
    "delete from vault.sat_customer where city = 'Ulm'": "sat_customer_tells_events",
    f"delete from vault.sat_customer where customer_hk = '{GHOST}'": "sat_customer_tells_events",
    "delete from vault.sat_customer where city = 'Rome'": "sat_customer_tells_history",
    "delete from vault.sat_product where price = 1": "sat_product_tells_events",
    "delete from vault.sat_product where price = 3": "sat_product_tells_history",
    "insert into vault.sat_product select * from vault.sat_product where price = 3": "sat_product_once",
    # That it was ever stated, and that it is no more.
    f"delete from vault.sat_order where {OF_ORDER.format('O5')} and not is_withdrawn": "sat_order_tells_events",
    f"delete from vault.sat_order where {OF_ORDER.format('O5')} and is_withdrawn": "sat_order_tells_events",
    "delete from vault.sat_order where op = 'delete'": "sat_order_tells_history",
    f"delete from vault.sat_order where {OF_ORDER.format('T1')}": "sat_order_tells_history",
    f"update vault.sat_order set order_amount = 7 where {OF_ORDER.format('O6')}": "sat_order_tells_history",
    f"delete from vault.eff_customer_order where {OF_ORDER.format('O4')} and op = 'delete'": "eff_customer_order_tells_events",
    f"delete from vault.eff_customer_order where {OF_ORDER.format('O1')}": "eff_customer_order_tells_history",
    "delete from vault.eff_order_product where op = 'delete'": "eff_order_product_tells_events",
    "delete from vault.eff_order_product where unit_price = 2 and op = 'upsert'": "eff_order_product_tells_history",
    "update vault.eff_order_product set order_product_hk = 'none' where unit_price = 2": "eff_order_product_at_home",
    f"delete from vault.pit_customer where customer_hk = '{GHOST}'": "pit_customer_filled",
    "delete from vault.pit_customer where moment = timestamp '2026-01-06 00:00:00'": "pit_customer_filled",
    # An order without lines, a line of several, and an order of one line.
    f"delete from vault.bridge_order where {OF_ORDER.format('O2')}": "bridge_order_filled",
    "delete from vault.bridge_order where order_product_hk in (select order_product_hk from vault.link_order_product where line_id = 'L2')": "bridge_order_filled",
    f"delete from vault.bridge_order where {OF_ORDER.format('T1')}": "bridge_order_filled",
}  # fmt: skip


def test_a_run_of_one_feed_brings_its_keys_into_the_hub_and_a_key_is_all_of_its_parts(
    tmp_path: Path, bucket: Bucket
) -> None:
    """No other feed of the hub has anything new, and their models are left out."""
    settings = settings_at(tmp_path / "home")
    platform = Platform(settings, bucket, project=settings.dbt_project).begin()
    for day, customer in enumerate(("C1", "C2"), 1):
        platform.put(f"customer_2026010{day}000000.csv", f"{HEAD}{customer},Ulm,2026-01-0{day}T00:00:00Z\n".encode())
        platform.sync("customers")
    hub = "select customer_id from vault.hub_customer where customer_id is not null order by 1"
    assert platform.rows(hub) == [("C1",), ("C2",)]
    # Keys are told apart by their parts and by their case; what names nobody is linked to the ghost.
    platform.put("customer_20260103000000.csv", f"{HEAD}c1,Ulm,2026-01-03T00:00:00Z\n".encode())
    orders = "order_id,customer_id,order_date,order_amount\na,C1,2026-01-03,1.00\nab,,2026-01-03,1.00\n"
    platform.put("orders_20260103000000.csv", orders.encode(), "orders")
    for day, named in ((3, "a,bc"), (4, "ab,c")):
        items = f"order_item_id,order_id,product_id,quantity,price\nL1,{named},1,1.00\n"
        platform.put(f"order_items_2026010{day}000000.csv", items.encode(), "order_items")
    for feed in ("customers", "orders", "order_items"):
        platform.load(feed)
    platform.build()
    assert platform.rows(hub) == [("C1",), ("C2",), ("c1",)]
    lines = "select count(*), count(distinct order_product_hk) from vault.link_order_product where line_id = 'L1'"
    assert platform.rows(lines) == [(2, 2)]
    for table, key in (("hub_customer", "customer_hk"), ("hub_order", "order_hk"), ("sat_customer", "customer_hk")):
        assert platform.rows(f"select count(*) from vault.{table} where {key} = '{GHOST}'") == [(1,)]
    linked = f"""
        select hub.order_id from vault.link_customer_order as links
        inner join vault.hub_order as hub on links.order_hk = hub.order_hk where links.customer_hk = '{GHOST}'
    """
    assert platform.rows(linked) == [("ab",)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, bucket_of_module: Bucket) -> Platform:
    """A vault of all that can become of a row, every check passed."""
    settings = settings_at(tmp_path_factory.mktemp("vault") / "home")
    platform = Platform(settings, bucket_of_module, project=settings.dbt_project).begin()
    for step in CAME:
        for feed, name, text in step:
            platform.put(name, text.encode(), feed)
        for feed in dict.fromkeys(feed for feed, *_ in step):
            platform.load(feed)
        platform.build()
    return platform


@contextmanager
def damaged(platform: Platform, statement: str) -> Iterator[None]:
    """The table that the statement names, for a while."""
    table = statement.split("vault.")[1].split()[0]
    with platform.warehouse.writing("test") as session:
        session.execute(f"create or replace table vault.kept as select * from vault.{table}")
        session.execute(statement)
    try:
        yield
    finally:
        with platform.warehouse.writing("test") as session:
            session.execute(f"create or replace table vault.{table} as select * from vault.kept")
            session.execute("drop table vault.kept")


@pytest.mark.parametrize("statement", DAMAGE)
def test_what_is_lost_is_found_by_the_check_that_is_there_for_it(built: Platform, statement: str) -> None:
    check = DAMAGE[statement]
    with damaged(built, statement), pytest.raises(BuildFailed) as found:
        built.build("--select", check)
    assert found.value.failed == [check]


def test_a_line_that_moved_leaves_an_order_without_lines(built: Platform) -> None:
    """The link to its former order stays; an order, or a line, that was deleted is in no bridge."""
    lines = """
        select hub.order_id, max(links.line_id), count(*) from vault.bridge_order as bridge
        inner join vault.hub_order as hub on bridge.order_hk = hub.order_hk
        left join vault.link_order_product as links on bridge.order_product_hk = links.order_product_hk
        group by hub.order_id order by hub.order_id
    """
    assert built.rows(lines) == [("O1", "L2", 2), ("O2", None, 1), ("O3", None, 1), ("O6", None, 1), ("T1", "T1", 1)]


PARTS = """
sources:
  - name: staging
    schema: staging
    tables:
      - name: order_parts
        columns: [{name: order_id, data_type: varchar}, {name: order_status, data_type: varchar}, {name: said_at, data_type: timestamp}]
        config:
          meta:
            feed: {prefix: order_parts/, formats: [csv], entity: shop_order, kind: partial, event_time: {column: said_at}}
"""


@at_length
def test_a_partial_feed_of_what_links_are_made_of_is_refused_by_name(tmp_path: Path, bucket: Bucket) -> None:
    project = project_with(tmp_path, {"models/staging/order_parts.yml": PARTS}, shop=True)
    with pytest.raises(BuildFailed, match=r"takes single columns of what feeds state of shop_order.*another kind"):
        Platform(settings_at(tmp_path / "home"), bucket, project=project).build()
