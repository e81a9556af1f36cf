"""The views, worked out again in plain Python from current, history and facts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.parts import Platform


def assert_right(platform: Platform) -> None:
    _customers(platform)
    _products(platform)
    _orders(platform)
    _moments(platform)
    _stock(platform)
    _counts(platform)


def _customers(platform: Platform) -> None:
    """(customer, currency): the names of purchases, what they brought, when they were."""
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    gross: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    at: dict[str, list[datetime]] = defaultdict(list)
    for row in platform.table("gold.fct_orders", "is_sale and customer_id is not null"):
        key = (row["customer_id"], row["currency"])
        names[key].add(f"{row['source']} {row['order_id']}")
        gross[key] += row["amount"] or 0
        at[row["customer_id"]] += [row["ordered_at"]] if row["ordered_at"] else []
    for row in platform.table("gold.fct_pos_lines", "kind = 'sale' and customer_id is not null"):
        key = (row["customer_id"], row["currency"])
        names[key].add(f"pos {row['store_id']} {row['transaction_id']}")
        gross[key] += row["amount"]
        at[row["customer_id"]].append(row["sold_at"])
    versions: dict[str, list[datetime]] = defaultdict(list)
    for row in platform.table("core.customer_history"):
        versions[row["customer_id"]].append(row["valid_from"])
    tickets = platform.table("core.support_ticket", "customer_id is not null")
    segments = {(r["customer_id"], r["currency"]): r["segment"] for r in platform.table("gold.customer_segments")}
    found = {row["customer_id"]: row for row in platform.table("gold.vw_customer_360")}
    current = {row["customer_id"]: row for row in platform.table("core.customer")}
    assert found.keys() == current.keys()
    bought = 0
    for customer, row in found.items():
        assert {name: row[name] for name in current[customer]} == current[customer]
        of = sorted(
            (key for key in names if key[0] == customer), key=lambda key: (-len(names[key]), -gross[key], key[1])
        )
        mine = [ticket for ticket in tickets if ticket["customer_id"] == customer]
        wanted: dict[str, Any] = {
            "customer_since": min(versions[customer]),
            "count_versions": len(versions[customer]),
            "count_orders": sum(len(names[key]) for key in of),
            "currency": of[0][1] if of else None,
            "count_currencies": len(of),
            "gross_revenue": gross[of[0]] if of else None,
            "first_order_at": min(at[customer], default=None),
            "last_order_at": max(at[customer], default=None),
            "segment": segments.get(of[0]) if of else None,
            "churn_risk": None,
            "count_tickets": len(mine),
            "count_open_tickets": sum((t["status"] or "").lower() not in ("closed", "resolved") for t in mine),
            "count_page_views": None,
        }
        assert {name: row[name] for name in wanted} == wanted
        if of:
            bought += 1
            assert abs(row["average_order"] - gross[of[0]] / len(names[of[0]])) < Decimal("0.0001")
        seen = [*versions[customer], *at[customer], *(t["created_at"] for t in mine if t["created_at"])]
        assert row["last_seen_at"] == max(seen)
    assert bought > 10 and any(row["count_tickets"] for row in found.values())


def _products(platform: Platform) -> None:
    items = platform.table("gold.fct_order_items", "is_sale and product_id is not null")
    of: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        of[item["product_id"], item["currency"]].append(item)
    found = platform.table("gold.vw_product_analytics")
    assert {row["product_id"] for row in found} == {row["product_id"] for row in platform.table("core.product")}
    sold = {(row["product_id"], row["currency"]): row for row in found if row["currency"]}
    known = {row["product_id"] for row in found}
    assert sold.keys() == {key for key in of if key[0] in known} and len(sold) == sum(
        row["currency"] is not None for row in found
    )
    versions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in platform.table("core.product_history"):
        versions[row["product_id"]].append(row)
    margins: Counter[bool] = Counter()
    stock: Counter[str] = Counter()
    for row in platform.table("core.inventory"):
        stock[row["product_id"]] += row["stock"]
    for key, row in sold.items():
        assert row["units_sold"] == sum(item["quantity"] or 0 for item in of[key])
        assert row["gross_revenue"] == sum(item["amount"] or 0 for item in of[key])
        # What a product costs in another currency says nothing of what the sale brought.
        costs = [
            (item["quantity"] or 0) * c if (c := cost_of(versions, item)) is not None else None for item in of[key]
        ]
        told = None if None in costs else row["gross_revenue"] - sum(filter(None, costs))
        assert row["margin"] == told
        margins[told is None] += 1
        assert row["count_orders"] == len({(item["source"], item["order_id"]) for item in of[key]})
        assert row["count_customers"] == len({item["customer_id"] for item in of[key]} - {None})
        revenue = [sum(item["amount"] or 0 for item in of[other]) for other in of if other[1] == key[1]]
        assert row["revenue_rank"] >= 1 + sum(other > row["gross_revenue"] for other in revenue)
        assert (row["stock"] or 0) == stock[key[0]]
    assert len(margins) == 2


def cost_of(versions: Mapping[str, Sequence[Mapping[str, Any]]], item: Mapping[str, Any]) -> Decimal | None:
    """What the item's version of its product cost, in the currency of the sale."""
    if item["product_key"] is None:
        return None
    begins = datetime.fromisoformat(item["product_key"].rsplit("@", 1)[1].removesuffix("Z"))
    (version,) = (each for each in versions[item["product_id"]] if each["valid_from"] == begins)
    cost: Decimal | None = version["cost"]
    return cost if (version["currency"] or "USD") == item["currency"] else None


def _orders(platform: Platform) -> None:
    facts = {(row["source"], row["order_id"]): row for row in platform.table("gold.fct_orders")}
    found = {(row["source"], row["order_id"]): row for row in platform.table("gold.vw_order_analytics")}
    assert found.keys() == facts.keys()
    cities = {row["customer_key"]: row["city"] for row in platform.table("gold.dim_customer")}
    before: dict[str, datetime] = {}
    numbers: Counter[str] = Counter()
    for key, fact in sorted(facts.items(), key=lambda kv: (str(kv[1]["ordered_at"]), kv[0])):
        row, customer = found[key], fact["customer_id"]
        assert row["customer_city"] == cities.get(fact["customer_key"]) and row["amount"] == fact["amount"]
        if not fact["is_sale"] or customer is None or fact["ordered_at"] is None:
            assert row["order_number"] is None
            continue
        numbers[customer] += 1
        days = (fact["ordered_at"].date() - before[customer].date()).days if customer in before else None
        assert (row["order_number"], row["days_since_previous"]) == (numbers[customer], days)
        before[customer] = fact["ordered_at"]


def _moments(platform: Platform) -> None:
    wanted: dict[tuple[Any, ...], Decimal | None] = {}
    for row in platform.table("gold.fct_orders", "customer_id is not null and ordered_at is not null"):
        which = f"{row['source']}/{row['order_id']}"
        wanted[row["customer_id"], "order", which, row["currency"], row["ordered_at"]] = row["amount"]
    receipts: dict[tuple[Any, ...], list[tuple[datetime, Decimal]]] = defaultdict(list)
    for row in platform.table("gold.fct_pos_lines", "customer_id is not null"):
        kind = "receipt" if row["kind"] == "sale" else "refund"
        which = f"{row['store_id']}/{row['transaction_id']}"
        receipts[row["customer_id"], kind, which, row["currency"]].append((row["sold_at"], row["amount"]))
    for key, lines in receipts.items():
        wanted[*key, max(at for at, _ in lines)] = sum((amount for _, amount in lines), Decimal())
    for row in platform.table("core.support_ticket", "customer_id is not null and created_at is not null"):
        wanted[row["customer_id"], "ticket", row["ticket_id"], None, row["created_at"]] = None
    found = platform.table("gold.vw_customer_moments")
    assert {
        (row["customer_id"], row["kind"], row["which"], row["currency"], row["happened_at"]): row["amount"]
        for row in found
    } == wanted
    assert len(found) == len(wanted) and {row["kind"] for row in found} == {"order", "receipt", "refund", "ticket"}


def _stock(platform: Platform) -> None:
    lines = platform.table("gold.fct_pos_lines")
    ((known,),) = platform.rows("select max(loaded_at) from staging.object_ledger")
    last = max(row["sales_date"] for row in lines if row["sold_at"] <= known)
    sold: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in lines:
        if row["kind"] == "sale" and 0 <= (last - row["sales_date"]).days < 28:
            sold[row["store_id"], row["product_id"]] += row["quantity"]
    names = {row["product_id"]: row["product_name"] for row in platform.table("core.product")}
    found = {(row["store_id"], row["product_id"]): row for row in platform.table("gold.vw_stock")}
    stock = {(row["store_id"], row["product_id"]): row["stock"] for row in platform.table("core.inventory")}
    assert {key: row["stock"] for key, row in found.items()} == stock
    for key, row in found.items():
        short = max(Decimal(75) - stock[key], Decimal(0))
        assert (row["units_short"], row["units_sold_lately"]) == (short, sold[key])
        assert row["product_name"] == names.get(key[1])
        if stock[key] > 0 and sold[key]:
            assert abs(Decimal(row["days_left"]) - stock[key] * 28 / sold[key]) <= Decimal("0.051")
        else:
            assert row["days_left"] == (0 if stock[key] <= 0 else None)


def _counts(platform: Platform) -> None:
    segments = platform.table("gold.customer_segments")
    counted = {(r["currency"], r["segment"]): r["count_customers"] for r in platform.table("gold.segment_counts")}
    assert counted == Counter((row["currency"], row["segment"]) for row in segments)
    moved = Counter(
        (row["currency"], row["segment_before"] or "none", row["segment"] or "none")
        for row in platform.table("gold.segment_moves")
    )
    found = platform.table("gold.segment_move_counts")
    assert {(r["currency"], r["segment_before"], r["segment"]): r["count_customers"] for r in found} == moved
    received: Counter[str] = Counter()
    for row in platform.table("clean.accounting", "unit = 'row'"):
        for fate in ("received", "accepted", "quarantined", "duplicates"):
            received[f"{row['feed']} {fate}"] += row[fate]
    told: Counter[str] = Counter()
    for row in platform.table("gold.feed_days"):
        for fate in ("received", "accepted", "quarantined", "duplicates"):
            told[f"{row['feed']} {fate}"] += row[fate]
    assert told == received and sum(told.values())
