"""The shop: categories, products, orders, items, transactions, tickets and stock counts, as CSV files by the clock.

Every file is named by its instant, which is the event time of its rows. Dates come in the forms that shops write.
Prices change, orders are cancelled or corrected by a later file, items may come before their order. Equal specs give
equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from generator.faults import FileFaults, csv_body, deliver, fault_share, plan_files, share_of
from generator.objects import GeneratedObject, Run

HEADERS: Mapping[str, tuple[str, ...]] = {
    "categories": ("category_id", "category_name"),
    "products": ("product_id", "product_name", "category", "category_id", "price", "currency", "cost", "supplier"),
    "orders": ("order_id", "customer_id", "order_date", "order_amount", "currency", "order_status", "payment_method"),
    "order_items": ("order_item_id", "order_id", "product_id", "quantity", "price"),
    "transactions": (
        "transaction_id", "customer_id", "order_date", "product_id", "quantity", "unit_price", "total_amount",
        "payment_method", "order_status",
    ),
    "support_tickets": ("ticket_id", "customer_id", "issue_category", "created_at", "status", "resolution_time_hours"),
    "stock_counts": ("store_id", "product_id", "counted_at", "quantity"),
}  # fmt: skip

_CATEGORIES = (
    "Books", "Garden", "Kitchen", "Toys", "Music", "Sports", "Office", "Lighting", "Textiles", "Tools", "Travel",
    "Pets",
)  # fmt: skip
_METHODS = ("card", "invoice", "transfer", "wallet")
_ISSUES = ("delivery", "payment", "quality", "account", "return")
_STORES = 3


@dataclass(frozen=True)
class ShopFaults(FileFaults):
    """The share, from 0 to 1, of the files or rows that each fault befalls."""

    ambiguous_dates: float = fault_share("orders and transactions whose date can be read in two ways: refused")
    unknown_customers: float = fault_share("orders and transactions of customers whom no file names")
    unknown_products: float = fault_share("items of products that no file names")
    corrected: float = fault_share(
        "orders and transactions that a later file states again with another amount or quantity"
    )
    cancelled: float = fault_share("orders and transactions that a later file cancels")
    early_items: float = fault_share("orders whose items come with the file before theirs, or whose order never comes")


SHOP_MIX = ShopFaults(
    late=0.05, duplicate_files=0.05, renamed_files=0.05, ambiguous_dates=0.01, unknown_customers=0.01,
    unknown_products=0.01, corrected=0.05, cancelled=0.05, early_items=0.02,
)  # fmt: skip
"""Some of everything, at shares that bad but real shops show."""


@dataclass(frozen=True)
class ShopSpec(Run):
    """A run of which each interval brings `orders_per_file` orders and a quarter as many transactions.

    `customers` are numbered as those of the customer files are: CUST_00001 and on.
    """

    customers: int = 1_000
    products: int = 200
    orders_per_file: int = 100
    faults: ShopFaults = field(default_factory=ShopFaults)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least_one("customers", "products", "orders_per_file")


def generate(spec: ShopSpec) -> Iterator[GeneratedObject]:
    """The objects of a run in the order of sending; those of one feed keep what befalls files to themselves."""
    shop = _Shop(spec)
    sheets: dict[str, list[GeneratedObject]] = {feed: [] for feed in HEADERS}
    for number in range(spec.files):
        for feed, rows in shop.interval(number).items():
            if rows:
                sheets[feed].append(_file(feed, spec.instant(number), rows, shop.refused))
    sent: list[tuple[datetime, int, GeneratedObject]] = []
    for feed, files in sheets.items():
        plan = plan_files(spec.faults, len(files), f"{spec.seed} {feed}", 0.0, ("none",)) if files else None
        if plan:
            named = ((file, file.name.replace(".csv", "_copy.csv")) for file in files)
            for at, file in enumerate(deliver(named, plan, Random(f"deliver {feed} {spec.seed}"))):
                sent.append((spec.instant(min(at, spec.files - 1)), len(sent), file))
    for arrival, (_, _, file) in enumerate(sorted(sent, key=lambda entry: entry[:2])):
        yield GeneratedObject(file.name, file.body, arrival, file.modified, file.refused, file.unreadable)


def _file(feed: str, at: datetime, rows: list[list[str]], refused: set[int]) -> GeneratedObject:
    reasons = {ordinal: "bad_timestamp:order_date" for ordinal, row in enumerate(rows, 1) if id(row) in refused}
    return GeneratedObject(f"{feed}/{feed}_{at:%Y%m%d%H%M%S}.csv", csv_body(list(HEADERS[feed]), rows), 0, at, reasons)


class _Shop:
    """What the shop has, and what each interval says of it."""

    def __init__(self, spec: ShopSpec) -> None:
        self.spec = spec
        self.refused: set[int] = set()
        self._random = Random(f"shop {spec.seed}")
        self._prices: dict[str, Decimal] = {}
        self._orders: list[list[str]] = []
        self._transactions: list[list[str]] = []
        self._tickets: list[list[str]] = []
        self._kept: list[list[str]] = []  # rows that are refused, alive so that their ids stay theirs
        self._early: list[list[str]] = []
        self._numbers = {"order": 0, "item": 0, "transaction": 0, "ticket": 0}

    def interval(self, number: int) -> dict[str, list[list[str]]]:
        """The rows of each feed's file of this instant; none, no file."""
        at = self.spec.instant(number)
        chance = self._random
        products = self._products(number)
        orders, items = self._new_orders(at)
        return {
            "categories": self._categories() if number == 0 else [],
            "products": products,
            "orders": orders + self._later(self._orders, orders, amount=3, status=5),
            "order_items": items,
            "transactions": self._new_transactions(at),
            "support_tickets": self._support(at),
            "stock_counts": self._counts(at) if number == 0 or chance.random() < 0.2 else [],
        }

    def _categories(self) -> list[list[str]]:
        return [[f"CAT_{at:03}", name] for at, name in enumerate(_CATEGORIES, 1)]

    def _products(self, number: int) -> list[list[str]]:
        """All of them at first, then those whose price changed."""
        chance = self._random
        wanted = range(1, self.spec.products + 1)
        if number:
            wanted = sorted(chance.sample(wanted, share_of(0.02, self.spec.products, chance)))  # type: ignore[assignment]
        rows = []
        for at in wanted:
            product = f"PROD_{at:05}"
            self._prices[product] = Decimal(chance.randrange(100, 20_000)) / 100
            category = 1 + at % len(_CATEGORIES)
            # Some name their category, some its id, some several.
            by_name = _CATEGORIES[category - 1].upper() if at % 3 == 0 else ""
            by_id = "" if by_name else f"CAT_{category:03}" + (";CAT_001" if at % 7 == 0 else "")
            price = self._prices[product]
            cost = (price * Decimal("0.6")).quantize(Decimal("0.01"))
            rows.append(
                [
                    product,
                    f"Product {at}",
                    by_name,
                    by_id,
                    str(price),
                    "EUR" if at % 10 == 9 else "USD",
                    str(cost),
                    f"Supplier {at % 9}",
                ]
            )
        return rows

    def _new_orders(self, at: datetime) -> tuple[list[list[str]], list[list[str]]]:
        orders, items, early = [], self._early, []
        for _ in range(self.spec.orders_per_file):
            order = f"ORD_{self._next('order'):06}"
            its_items = [self._item(order) for _ in range(self._random.randint(1, 4))]
            total = sum(Decimal(item[3]) * Decimal(item[4]) for item in its_items)
            stated = str(total) if self._random.random() < 0.8 else ""
            placed = at - timedelta(seconds=self._random.randrange(self.spec.interval))
            row = [order, self._customer(), self._date(placed), stated, "USD" if self._random.random() < 0.9 else "",
                   "paid", self._random.choice(_METHODS)]  # fmt: skip
            if self._hit("early_items"):
                early += its_items  # an order that comes before its items, here without coming at all
                continue
            orders.append(self._dated(row, 2, placed))
            items = items + its_items
        self._early = []
        items = items + early
        return orders, items

    def _item(self, order: str) -> list[str]:
        if self._hit("unknown_products"):
            product, price = "PROD_99999", Decimal("9.99")
        else:
            product = f"PROD_{self._random.randint(1, self.spec.products):05}"
            price = self._prices[product]
        return [f"ITEM_{self._next('item'):07}", order, product, str(self._random.randint(1, 5)), str(price)]

    def _new_transactions(self, at: datetime) -> list[list[str]]:
        new = []
        for _ in range(max(1, self.spec.orders_per_file // 4)):
            product = f"PROD_{self._random.randint(1, self.spec.products):05}"
            quantity, price = self._random.randint(1, 5), self._prices[product]
            placed = at - timedelta(seconds=self._random.randrange(self.spec.interval))
            row = [f"TXN_{self._next('transaction'):06}", self._customer(), self._date(placed), product, str(quantity),
                   str(price), str(quantity * price), self._random.choice(_METHODS), "completed"]  # fmt: skip
            new.append(self._dated(row, 2, placed))
        return new + self._later(self._transactions, new, amount=6, status=8)

    def _later(self, known: list[list[str]], new: list[list[str]], *, amount: int, status: int) -> list[list[str]]:
        """Rows of former files, corrected or cancelled; the new ones are remembered."""
        again = []
        for row in known[-2_000:]:
            if self._random.random() < self.spec.faults.corrected / 4 and row[amount]:
                row[amount] = str(Decimal(row[amount]) + Decimal("1.25"))
                again.append(list(row))
            if self._random.random() < self.spec.faults.cancelled / 4:
                row[status] = "cancelled"
                again.append(list(row))
        known += [list(row) for row in new if id(row) not in self.refused]
        return again

    def _support(self, at: datetime) -> list[list[str]]:
        new = [
            [f"TICKET_{self._next('ticket'):06}", self._customer(), self._random.choice(_ISSUES),
             self._date(at - timedelta(seconds=self._random.randrange(self.spec.interval))), "open", ""]
            for _ in range(max(1, self.spec.orders_per_file // 20))
        ]  # fmt: skip
        closed = []
        for ticket in self._tickets[-50:]:
            if ticket[4] == "open" and self._random.random() < 0.3:
                ticket[4], ticket[5] = "closed", str(self._random.randint(1, 200))
                closed.append(list(ticket))
        self._tickets += [list(ticket) for ticket in new]
        return new + closed

    def _counts(self, at: datetime) -> list[list[str]]:
        products = self._random.sample(range(1, self.spec.products + 1), max(1, self.spec.products // 10))
        return [
            [
                f"STORE_{1 + product % _STORES:03}",
                f"PROD_{product:05}",
                at.isoformat() + "Z",
                str(self._random.randint(0, 300)),
            ]
            for product in products
        ]

    def _customer(self) -> str:
        if self._hit("unknown_customers"):
            return f"CUST_9{self._random.randrange(1000):05}"
        return f"CUST_{self._random.randint(1, self.spec.customers):05}"

    def _date(self, at: datetime) -> str:
        """A date or time as shops write them; month first only where it cannot be read otherwise."""
        form = self._random.randrange(4)
        if form == 0:
            return f"{at:%Y-%m-%d}"
        if form == 1:
            return f"{at:%Y/%m/%d}"
        if form == 2 and (at.day > 12 or at.day == at.month):
            return f"{at:%m/%d/%Y}"
        return at.isoformat() + "Z"

    def _dated(self, row: list[str], date: int, at: datetime) -> list[str]:
        """The row, or one whose date can be read in two ways."""
        if self._hit("ambiguous_dates"):
            day = 1 + at.day % 12
            row = [*row]
            row[date] = f"{at:%m}/{day if day != at.month else 1 + day % 12:02}/{at:%Y}"
            self.refused.add(id(row))
            self._kept.append(row)
        return row

    def _hit(self, fault: str) -> bool:
        share: float = getattr(self.spec.faults, fault)
        return share > 0 and self._random.random() < share

    def _next(self, kind: str) -> int:
        self._numbers[kind] += 1
        return self._numbers[kind]
