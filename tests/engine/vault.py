"""What the vault must hold, worked out from what was sent: its keys, its story, and that a reload adds nothing to it."""

from __future__ import annotations

from typing import Any

from tests.parts import Platform

TABLES = (
    "hub_customer", "hub_product", "hub_order", "link_customer_order", "link_order_product", "sat_customer", "sat_product",
    "sat_order", "eff_customer_order", "eff_order_product", "pit_customer", "bridge_order",
)  # fmt: skip
CHECKS = ("--select", "vault", "--resource-type", "test")


def counts(platform: Platform) -> dict[str, int]:
    return {table: platform.rows(f"select count(*) from vault.{table}")[0][0] for table in TABLES}


def contents(platform: Platform) -> dict[str, set[Any]]:
    return {table: {repr(tuple(row.values())) for row in platform.table(f"vault.{table}")} for table in TABLES}


def assert_holds(platform: Platform) -> None:
    """Every check of the vault, and what it says of now against current and facts, which know nothing of it."""
    platform.build(*CHECKS)
    found = counts(platform)
    assert min(found.values()) > 1, found
    for entity in ("customer", "product"):
        latest = f"""
            select count(*) from vault.hub_{entity} where {entity}_hk in (
                select {entity}_hk from (
                    select *, row_number() over (partition by {entity}_hk order by applied_at desc, position desc nulls last, op asc, hash_diff desc) as place
                    from (
                        select *, row_number() over (partition by {entity}_hk, applied_at, op, hash_diff order by _batch desc) as newest
                        from vault.sat_{entity}
                    ) as told
                    where newest = 1 and not is_withdrawn and record_source <> 'ghost'
                ) as events
                where place = 1 and op = 'upsert'
            )
        """
        assert platform.rows(latest) == platform.rows(f"select count(*) from core.{entity}")
    # An order without a date has no moment; facts of orders have them all.
    facts = platform.rows(
        "select items.source, items.order_id, items.customer_id, items.product_id, count(*) from gold.fct_order_items as items "
        "where items.ordered_at is not null group by 1, 2, 3, 4 order by 1, 2, 3, 4"
    )
    bridge = platform.rows(
        """
        select orders.source, orders.order_id, customers.customer_id, products.product_id, count(*)
        from vault.bridge_order as bridge
        inner join vault.hub_order as orders on bridge.order_hk = orders.order_hk
        inner join vault.hub_customer as customers on bridge.customer_hk = customers.customer_hk
        inner join vault.hub_product as products on bridge.product_hk = products.product_hk
        where bridge.moment is not null
        group by 1, 2, 3, 4 order by 1, 2, 3, 4
        """
    )
    assert bridge == facts
    # The version that a fact names is of the event that held, or a later one of the same version.
    at_hand = platform.rows(
        """
        select count(*) from vault.pit_customer as pit
        inner join vault.hub_customer as hub on pit.customer_hk = hub.customer_hk
        inner join core.customer_history as versions
            on hub.customer_id = versions.customer_id and versions.valid_from <= pit.moment
            and (versions.valid_to is null or versions.valid_to > pit.moment)
        where pit.sat_customer_applied_at < versions.valid_from
            or (versions.valid_to is not null and pit.sat_customer_applied_at >= versions.valid_to)
        """
    )
    assert at_hand == [(0,)]
