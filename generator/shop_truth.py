"""What the shop's files mean, in plain Python: the oracle of the star and of the stock.

Favours being obviously right over being fast, and shares no code with the SQL that it judges. Facts are worked out from
the whole set of objects; in which order they came says nothing.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from generator.objects import GeneratedObject
from generator.truth import Entity, Event, Row, Truth, fold
from generator.values import BLANKS, day, instant

NO_SALE = {"cancelled", "canceled", "refunded", "returned", "failed", "unavailable"}
OPENING_STOCK = Decimal(100)

ENTITIES: Mapping[str, Entity] = {
    "categories": Entity(("category_id",), ("category_name",)),
    "products": Entity(
        ("product_id",), ("product_name", "category", "category_id", "price", "currency", "cost", "supplier")
    ),
    "orders": Entity(
        ("order_id",), ("customer_id", "order_date", "order_amount", "currency", "order_status", "payment_method")
    ),
    "order_items": Entity(("order_item_id",), ("order_id", "product_id", "quantity", "price")),
    "transactions": Entity(
        ("transaction_id",),
        ("customer_id", "order_date", "product_id", "quantity", "unit_price", "total_amount", "currency",
         "payment_method", "order_status"),
    ),
    "support_tickets": Entity(
        ("ticket_id",), ("customer_id", "issue_category", "created_at", "status", "resolution_time_hours")
    ),
    "stock_counts": Entity(("store_id", "product_id"), ("quantity",)),
}  # fmt: skip
_TIMES = {"orders": "order_date", "transactions": "order_date", "support_tickets": "created_at"}


@dataclass(frozen=True)
class Star:
    """The facts and what is made of them, each a list of rows."""

    order_items: list[Row]
    orders: list[Row]
    customer_sales: list[Row]
    category_days: list[Row]


def shop_events(objects: Iterable[GeneratedObject]) -> dict[str, Truth]:
    """Per feed what its objects come to."""
    events: dict[str, list[Event]] = {feed: [] for feed in ENTITIES}
    for name, sent in {each.name: each for each in objects}.items():
        feed = name.split("/")[0]
        digits = re.search(r"_(\d{14})", name)
        for ordinal, row in enumerate(csv.DictReader(io.StringIO(sent.body.decode())), 1):
            if ordinal in sent.refused:
                continue
            stated = {column: (text or "").strip(BLANKS) or None for column, text in row.items()}
            at = instant(stated["counted_at"] or "") if feed == "stock_counts" else None
            if at is None and digits:
                at = datetime.strptime(digits[1], "%Y%m%d%H%M%S")
            if at is None:
                raise ValueError(f"row {ordinal} of {name} has no time")
            entity = ENTITIES[feed]
            key = tuple(stated[column] or "" for column in entity.key)
            position = None if feed == "stock_counts" else (Decimal(ordinal),)
            events[feed].append(Event(key, at, "upsert", {c: stated.get(c) for c in entity.attributes}, position))
    return {feed: fold(ENTITIES[feed], found) for feed, found in events.items()}


def star(shop: Mapping[str, Truth], customers: Truth, currency: str = "USD") -> Star:
    """The shop's half of the star: tills have none of it here."""
    customer_versions, product_versions = _versions(customers, "customer_id"), _versions(shop["products"], "product_id")
    names = {row["category_id"]: row["category_name"] for row in shop["categories"].current}
    ids_by_name: dict[str, str] = {}
    for category_id, name in sorted(names.items(), reverse=True):
        ids_by_name[name.lower()] = category_id

    placed: dict[tuple[str, str], Row] = {}
    for feed, key, amount in (
        ("orders", "order_id", "order_amount"),
        ("transactions", "transaction_id", "total_amount"),
    ):
        for row in shop[feed].current:
            placed[feed, row[key]] = {
                "customer_id": row["customer_id"], "ordered_at": _time(row["order_date"]),
                "currency": row["currency"] or currency, "status": row["order_status"],
                "is_sale": (row["order_status"] or "").lower() not in NO_SALE, "stated": _decimal(row[amount]),
            }  # fmt: skip

    items = []
    stated_items = [
        ("orders", row["order_item_id"], row["order_id"], row["product_id"], row["quantity"], row["price"])
        for row in shop["order_items"].current
    ] + [
        (
            "transactions",
            row["transaction_id"],
            row["transaction_id"],
            row["product_id"],
            row["quantity"],
            row["unit_price"],
        )
        for row in shop["transactions"].current
    ]
    for source, item, order_id, product, quantity, price in stated_items:
        order = placed.get((source, order_id), {})
        at = order.get("ordered_at")
        version, product_match = _version_at(product_versions, product, at)
        customer, customer_match = _version_at(customer_versions, order.get("customer_id"), at)
        items.append({
            "source": source, "order_item_id": item, "order_id": order_id, "product_id": product,
            "product_from": version["valid_from"] if version else None, "product_match": product_match,
            "customer_id": order.get("customer_id"), "customer_from": customer["valid_from"] if customer else None,
            "customer_match": customer_match, "category_id": _category(version, ids_by_name), "ordered_at": at,
            "currency": order.get("currency"), "is_sale": order.get("is_sale"),
            "amount": _product(quantity, price),
        })  # fmt: skip

    orders = []
    for (source, order_id), order in placed.items():
        own = [item for item in items if item["source"] == source and item["order_id"] == order_id]
        customer, match = _version_at(customer_versions, order["customer_id"], order["ordered_at"])
        total = _sum(item["amount"] for item in own) if own else None
        orders.append({
            "source": source, "order_id": order_id, "customer_id": order["customer_id"],
            "customer_from": customer["valid_from"] if customer else None, "customer_match": match,
            "ordered_at": order["ordered_at"], "is_sale": order["is_sale"], "currency": order["currency"],
            "amount": order["stated"] if order["stated"] is not None else total, "count_items": len(own),
        })  # fmt: skip
    return Star(items, orders, _customer_sales(orders), _category_days(items))


def _customer_sales(orders: list[Row]) -> list[Row]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for order in orders:
        if order["is_sale"] and order["customer_id"] is not None:
            groups[order["customer_id"], order["currency"]].append(order)
    return [
        {"customer_id": customer, "currency": currency, "count_purchases": len(own),
         "net_revenue": _sum(order["amount"] for order in own),
         "last_bought_at": max((o["ordered_at"] for o in own if o["ordered_at"]), default=None)}
        for (customer, currency), own in groups.items()
    ]  # fmt: skip


def _category_days(items: list[Row]) -> list[Row]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for item in items:
        if item["is_sale"] and item["ordered_at"]:
            groups[item["ordered_at"].date(), item["category_id"], item["currency"]].append(item)
    return [
        {"sales_date": date, "category_id": category, "currency": currency,
         "count_purchases": len({(item["source"], item["order_id"]) for item in own}),
         "net_revenue": _sum(item["amount"] for item in own)}
        for (date, category, currency), own in groups.items()
    ]  # fmt: skip


def stock(lines: Iterable[Row], counts: Truth) -> dict[tuple[str, str], Decimal]:
    """{(store, product): units} of till lines that stand and of counts."""
    lines = list(lines)
    sold: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for line in lines:
        if line["kind"] == "sale":
            sold[line["store_id"], line["transaction_id"], line["currency"]] += line["amount"]
    returned: dict[tuple[str, str], datetime] = {}
    for line in lines:
        receipt = (line["store_id"], line["refund_of"])
        whole = sold.get((*receipt, line["currency"]))
        if line["kind"] == "refund" and line["product_id"] is None and whole is not None and line["amount"] >= whole:
            returned[receipt] = min(returned.get(receipt, line["sold_at"]), line["sold_at"])
    moves: dict[tuple[str, str], list[tuple[datetime, Decimal]]] = defaultdict(list)
    for line in lines:
        if line["product_id"] is None:
            continue
        place = (line["store_id"], line["product_id"])
        moves[place].append(
            (line["sold_at"], {"sale": -1, "refund": 1, "cancelled": 0}[line["kind"]] * line["quantity"])
        )
        back = returned.get((line["store_id"], line["transaction_id"]))
        if line["kind"] == "sale" and back is not None:
            moves[place].append((back, line["quantity"]))
    counted: dict[tuple[str, str], tuple[datetime, Decimal]] = {}
    for event in _winners(counts.log):
        counted[event["store_id"], event["product_id"]] = (event["event_time"], Decimal(event["quantity"]))
    return {
        place: counted[place][1] + sum((units for at, units in moves[place] if at > counted[place][0]), Decimal(0))
        if place in counted
        else OPENING_STOCK + sum((units for _, units in moves[place]), Decimal(0))
        for place in moves.keys() | counted.keys()
    }


def _winners(log: list[Row]) -> list[Row]:
    """The last event of each key and instant, in order."""
    last: dict[tuple[str, str, datetime], Row] = {}
    for row in log:
        last[row["store_id"], row["product_id"], row["event_time"]] = row
    return sorted(last.values(), key=lambda row: row["event_time"])


def _versions(truth: Truth, key: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for version in truth.history:
        found[version[key]].append(version)
    return found


def _version_at(versions: Mapping[str, list[Row]], key: str | None, at: datetime | None) -> tuple[Row | None, str]:
    """The version that held then, or the first one where all begin later, and how it was found."""
    if key is None:
        return None, "none"
    if at is None:
        return None, "undated"
    own = versions.get(key)
    if not own:
        return None, "unknown"
    for version in own:
        if version["valid_from"] <= at and (version["valid_to"] is None or at < version["valid_to"]):
            return version, "version"
    first = min(own, key=lambda version: version["valid_from"])
    return (first, "later") if first["valid_from"] > at else (None, "gap")


def _category(product: Row | None, ids_by_name: Mapping[str, str]) -> str | None:
    if product is None:
        return None
    listed = [text.strip() for text in (product["category_id"] or "").replace("|", ";").split(";")]
    if listed[0]:
        return str(listed[0])
    name = (product["category"] or "").replace("|", ";").split(";")[0].strip()
    return ids_by_name.get(name.lower())


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    if (at := instant(text)) is not None:
        return at
    return datetime.fromisoformat(day(text) or "")


def _decimal(text: str | None) -> Decimal | None:
    return Decimal(text) if text is not None else None


def _product(one: str | None, other: str | None) -> Decimal | None:
    return Decimal(one) * Decimal(other) if one is not None and other is not None else None


def _sum(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((amount for amount in amounts if amount is not None), Decimal(0))
