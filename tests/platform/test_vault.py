"""The vault in runs of what has something new: each leaves the rest alone, and the vault has all the same what came."""

from __future__ import annotations

from pathlib import Path

from c360_assets.landing import Bucket
from tests.parts import Platform, settings_at

HEAD = "customer_id,city,updated_at\n"


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
    ghost = "0" * 64
    for table, key in (("hub_customer", "customer_hk"), ("hub_order", "order_hk"), ("sat_customer", "customer_hk")):
        assert platform.rows(f"select count(*) from vault.{table} where {key} = '{ghost}'") == [(1,)]
    linked = f"""
        select hub.order_id from vault.link_customer_order as links
        inner join vault.hub_order as hub on links.order_hk = hub.order_hk where links.customer_hk = '{ghost}'
    """
    assert platform.rows(linked) == [("ab",)]
