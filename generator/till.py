"""Receipts of tills as Firehose delivers them: JSON objects one after another without line breaks, some files zipped.

Each store counts its own transactions, so that their numbers recur from store to store. A product stands twice in some
receipts: a till scans twice. Prices are the same numbers in every currency. Equal specs give equal bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, TypeAlias
from uuid import UUID

from generator.faults import FileFaults, check_share, deliver, fault_share, plan_files, share_of, some_of
from generator.objects import GeneratedObject, Run

Stated: TypeAlias = dict[str, Any]

PRODUCTS, CUSTOMERS = 5_000, 10_000
OTHER_CURRENCIES = ("EUR", "GBP")
"""What foreign stores sell in, and say; of the others it is understood."""
REMEMBERED = 20_000
"""Receipts that may come again, be corrected or be given back: beyond them chance decides which are forgotten."""

_CITIES = ("Oslo", "Zürich", "Malmö", "Aarhus", "Łódź", "Gent", "Bari", "Graz", "Porto", "Brno")
_METHODS = ("card", "cash", "mobile", "voucher")


@dataclass(frozen=True)
class TillFaults(FileFaults):
    """The share, from 0 to 1, of the files, receipts or lines that each fault befalls.

    A receipt suffers at most one of those from `broken` on, beside what its lines do.
    """

    cut_files: float = fault_share("files sent cut in half at first, and later whole under the same name")
    redelivered: float = fault_share("receipts that come again in a later file, as they were")
    corrected: float = fault_share("receipts that come again in a later file with another quantity or price")
    bad_lines: float = fault_share(
        "lines without product, or whose price or quantity is none, 0, negative or no number"
    )
    cancelled: float = fault_share("lines that are marked as cancelled")
    broken: float = fault_share("receipts cut within their file")
    unkeyed: float = fault_share("receipts without store or transaction")
    untimed: float = fault_share("receipts without a time that can be read")
    empty: float = fault_share("receipts without items")
    bad_items: float = fault_share("receipts whose items are no list")
    cancel_items: float = fault_share("receipts that cancel one of their products afterwards")
    unknown_cancels: float = fault_share("receipts that cancel a product which is not in them")
    refunds: float = fault_share("receipts refunded on their day")
    later_refunds: float = fault_share("receipts that refund one of a day before, some with items of their own")
    unknown_refunds: float = fault_share("receipts that refund a transaction which is not known")
    excess_refunds: float = fault_share("receipts that refund more than they sold")
    broken_refunds: float = fault_share(
        "receipts whose refund is no object, or its amount none, 0, negative or no number"
    )


TILL_MIX = TillFaults(
    late=0.02,
    duplicate_files=0.05,
    renamed_files=0.05,
    cut_files=0.02,
    redelivered=0.02,
    corrected=0.01,
    bad_lines=0.01,
    cancelled=0.02,
    broken=0.002,
    unkeyed=0.005,
    untimed=0.005,
    empty=0.005,
    bad_items=0.002,
    cancel_items=0.01,
    unknown_cancels=0.005,
    refunds=0.02,
    later_refunds=0.03,
    unknown_refunds=0.005,
    excess_refunds=0.005,
    broken_refunds=0.005,
)
"""Some of everything, at shares that bad but real tills show."""

_NAMES = [each.name for each in fields(TillFaults)]
_OF_RECEIPTS = _NAMES[_NAMES.index("broken") :]


@dataclass(frozen=True)
class TillSpec(Run):
    """A run of which each file has `receipts_per_object` new receipts, and more where faults add some.

    `zipped` is the share of files, `foreign` that of stores with a currency of their own.
    """

    stores: int = 20
    receipts_per_object: int = 500
    zipped: float = 0.0
    foreign: float = 0.0
    faults: TillFaults = field(default_factory=TillFaults)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least_one("stores", "receipts_per_object")
        check_share("zipped", self.zipped)
        check_share("foreign", self.foreign)


def generate(spec: TillSpec) -> Iterator[GeneratedObject]:
    """The objects of a run in the order of sending, each with the receipts of which nothing must be taken."""
    plan = plan_files(spec.faults, spec.files, spec.seed, spec.faults.cut_files, ("cut",))
    zipped = frozenset(some_of(range(spec.files), spec.zipped, Random(f"zipped {spec.seed}")))
    cut: dict[str, GeneratedObject] = {}

    def files() -> Iterator[tuple[GeneratedObject, str]]:
        tills = _Tills(spec)
        names, cuts = Random(f"names {spec.seed}"), Random(f"cut {spec.seed}")
        for number in range(spec.files):
            receipts = tills.file(number, sent_once=number not in plan.again)
            body = "".join(receipt.text for receipt in receipts).encode()
            file = GeneratedObject(
                _name(spec.instant(number), names),
                gzip.compress(body, mtime=0) if number in zipped else body,
                number,
                spec.instant(number + 1),
                {at: receipt.refused for at, receipt in enumerate(receipts, start=1) if receipt.refused},
            )
            if number in plan.broken:
                cut[file.name] = _cut_file(file, receipts, cuts)
            yield file, _name(spec.instant(number), names)

    # A cut file comes again like any other that is sent twice, and is cut the first time.
    twice = replace(plan, again=plan.again | plan.broken.keys())
    for sent in deliver(files(), twice, Random(f"delivery {spec.seed}")):
        first = cut.pop(sent.name, None)
        yield replace(first, arrival=sent.arrival) if first else sent


def _name(instant: datetime, random: Random) -> str:
    uuid = UUID(int=random.getrandbits(128), version=4)
    return f"pos/{instant:%Y/%m/%d/%H}/stream-1-{instant:%Y-%m-%d-%H-%M-%S}-{uuid}"


@dataclass(frozen=True)
class _Receipt:
    """A receipt as written at an instant, the places of its sound lines, and why nothing of it must be taken, if so."""

    store: int
    stated: Stated
    at: datetime
    sound: Sequence[int]
    refused: str | None
    cut_after: int | None = None

    @property
    def text(self) -> str:
        return json.dumps(self.stated, ensure_ascii=False, separators=(",", ":"))[: self.cut_after]


def _cut_place(random: Random) -> int:
    """A place in the name or the value of the first field: anywhere else, what comes next could be read otherwise."""
    place: int = random.choice([*range(2, 6), *range(13, 19)])  # of {"store_id":"STORE_001"
    return place


def _cut_file(file: GeneratedObject, receipts: Sequence[_Receipt], random: Random) -> GeneratedObject:
    """The first half of a file: up to somewhere in its middle receipt, or half the bytes of a zipped one."""
    if file.body[:1] != b"{":
        return replace(file, body=file.body[: len(file.body) // 2], refused={}, unreadable=True)
    half = len(receipts) // 2
    text = "".join(receipt.text for receipt in receipts[:half]) + receipts[half].text[: _cut_place(random)]
    refused = {at: reason for at, reason in file.refused.items() if at <= half}
    if refused.get(half) != "broken_json":  # else the two of them are one stretch
        refused[half + 1] = "broken_json"
    return replace(file, body=text.encode(), refused=refused)


class _Tills:
    """The stores, what they sell, and what they write file by file."""

    def __init__(self, spec: TillSpec) -> None:
        self.spec = spec
        self.random = Random(f"tills {spec.seed}")
        self.chance = Random(f"faults {spec.seed}")  # of its own, so that what a fault leaves alone stays as it is
        foreign = some_of(range(spec.stores), spec.foreign, Random(f"foreign {spec.seed}"))
        self.currencies = {store: OTHER_CURRENCIES[at % len(OTHER_CURRENCIES)] for at, store in enumerate(foreign)}
        self.prices = [Decimal(self.random.randint(50, 20_000)) / 100 for _ in range(PRODUCTS)]
        self.counts = [0] * spec.stores
        self.past: list[_Receipt] = []  # of earlier files
        self.former: list[_Receipt] = []  # those of `past` that are of an earlier day
        self.day = date.min

    def file(self, number: int, *, sent_once: bool) -> list[_Receipt]:
        """The receipts of a file; of one that is sent again as it is, none comes from or goes to another file.

        For if it is read twice, or once at the end, would decide whether it is older or newer than the other.
        """
        spec, faults = self.spec, self.spec.faults
        if spec.instant(number).date() > self.day:
            self.day = spec.instant(number).date()
            self.former = [receipt for receipt in self.past if receipt.at.date() < self.day]
        struck = self._struck()
        times = sorted(timedelta(seconds=self.random.randrange(spec.interval)) for _ in range(spec.receipts_per_object))
        receipts = [self._receipt(spec.instant(number) + time, struck.get(at)) for at, time in enumerate(times)]
        if sent_once:
            again = self._some_past(faults.redelivered)
            again += [self._corrected(receipt) for receipt in self._some_past(faults.corrected)]
            self.past += [receipt for receipt in receipts + again if receipt.sound and not receipt.refused]
            if len(self.past) > REMEMBERED:
                self.past = self.chance.sample(self.past, REMEMBERED)
            for receipt in again:
                receipts.insert(self.chance.randrange(len(receipts)), receipt)
        return receipts

    def _struck(self) -> dict[int, str]:
        """Which new receipts of a file suffer what."""
        total = self.spec.receipts_per_object
        struck: dict[int, str] = {}
        for fault in _OF_RECEIPTS:
            free = [at for at in range(total) if at not in struck]
            wanted = share_of(getattr(self.spec.faults, fault), total, self.chance)
            for at in sorted(self.chance.sample(free, min(wanted, len(free)))):
                # Two cut receipts in a row would be read as one, and what follows a cut one has to be whole.
                if fault != "broken" or (at < total - 1 and struck.get(at - 1) != "broken"):
                    struck[at] = fault
        return struck

    def _some_past(self, share: float) -> list[_Receipt]:
        wanted = share_of(share, self.spec.receipts_per_object, self.chance) if share else 0
        return self.chance.sample(self.past, min(wanted, len(self.past)))

    def _corrected(self, receipt: _Receipt) -> _Receipt:
        """The receipt with another quantity or price in one of its sound lines."""
        items = [{**item} for item in receipt.stated["items"]]
        item = items[self.chance.choice(receipt.sound)]
        if self.chance.random() < 0.5:
            item["quantity"] = round(item["quantity"] + self.chance.randint(1, 3), 3)
        else:
            item["price"] = round(item["price"] + 0.5, 2)
        total = float(_total(items[place] for place in receipt.sound))
        return replace(receipt, stated={**receipt.stated, "items": items, "total_amount": total})

    # What a receipt says

    def _receipt(self, at: datetime, fault: str | None) -> _Receipt:
        random, store = self.random, self.random.randrange(self.spec.stores)
        given_back = self.chance.choice(self.former) if fault == "later_refunds" and self.former else None
        if given_back:  # where it was bought
            store = given_back.store
        items, reasons = self._items()
        sound = [place for place, reason in enumerate(reasons) if reason is None]
        self.counts[store] += 1
        stated: Stated = {
            "store_id": f"STORE_{store + 1:03d}",
            "city": _CITIES[store % len(_CITIES)],
            "transaction_id": f"TXN_{self.counts[store]:06d}",
            "timestamp": f"{at:%Y-%m-%dT%H:%M:%S}Z",
            "items": items,
            "total_amount": float(_total(items[place] for place in sound)),
            "payment_method": random.choice(_METHODS),
            "refund": None,
            "cancel_item": None,
        }
        if random.random() < 0.5:
            stated["customer_id"] = f"CUST_{random.randint(1, CUSTOMERS):05d}"
        if store in self.currencies:
            stated["currency"] = self.currencies[store]
        refused: str | None = None
        if fault == "broken":
            return _Receipt(store, stated, at, (), "broken_json", _cut_place(self.chance))
        if given_back:
            self._give_back(stated, given_back, at)
        elif fault is not None and fault != "later_refunds":
            refused = self._spoil(stated, fault, at)
        if not stated.get("items"):
            sound = []
        elif refused is None and not sound and (stated["refund"] is None or fault == "broken_refunds"):
            refused = reasons[0]
        return _Receipt(store, stated, at, sound, refused)

    def _items(self) -> tuple[list[Stated], list[str | None]]:
        """Lines, and for each of them why it must not be taken, if so."""
        random, faults = self.random, self.spec.faults
        items = [self._item() for _ in range(1 + min(11, int(random.expovariate(0.5))))]
        if random.random() < 0.1:
            items.insert(random.randint(0, len(items)), {**random.choice(items)})
        reasons: list[str | None] = [None] * len(items)
        for at, item in enumerate(items):
            if faults.cancelled and self.chance.random() < faults.cancelled:
                item["canceled"] = True
            if faults.bad_lines and self.chance.random() < faults.bad_lines:
                name, value, reasons[at] = self.chance.choice(_BAD_FIELDS)
                item[name] = value
        return items, reasons

    def _item(self) -> Stated:
        product = self.random.randrange(PRODUCTS)
        # Every tenth product is sold by weight, so that there is something to round.
        quantity = self.random.randint(100, 3_000) / 1_000 if product % 10 == 0 else self.random.randint(1, 5)
        item = {"product_id": f"PROD_{product + 1:05d}", "price": float(self.prices[product]), "quantity": quantity}
        return item | {"canceled": False} if self.random.random() < 0.1 else item

    def _give_back(self, stated: Stated, sale: _Receipt, at: datetime) -> None:
        """Refunds a line of an earlier receipt; half of such receipts sell nothing."""
        item = sale.stated["items"][self.chance.choice(sale.sound)]
        # Where a refund says no time, it has its receipt's.
        when = at + timedelta(seconds=self.chance.randrange(86_400)) if self.chance.random() < 0.7 else None
        stated["refund"] = self._refund(sale.stated["transaction_id"], _amount(item), when)
        if self.chance.random() < 0.5:
            self._leave_out(stated, "items", None, [])
            stated["total_amount"] = 0

    def _spoil(self, stated: Stated, fault: str, at: datetime) -> str | None:
        """Does to a sound receipt what the fault says; why nothing of it must be taken, if so."""
        chance, own = self.chance, stated["transaction_id"]
        sold = max(Decimal(str(stated["total_amount"])), Decimal("0.01"))
        if fault == "unkeyed":
            name = chance.choice(("store_id", "transaction_id"))
            self._leave_out(stated, name, None, "  ")
            return f"missing_key:{name}"
        if fault == "untimed":
            if chance.random() < 0.5:
                self._leave_out(stated, "timestamp", None, "")
                return "missing_event_time"
            stated["timestamp"] = chance.choice(("yesterday", "2026-02-30T12:00:00Z", 1772366400))
            return "bad_event_time"
        if fault == "empty":
            self._leave_out(stated, "items", None, [])
            return "no_items"
        if fault == "bad_items":
            stated["items"] = chance.choice(("PROD_00001", stated["items"][0], 3))
            return "bad_items"
        if fault == "unknown_cancels":
            stated["cancel_item"] = {"transaction_id": own, "product_id": "PROD_00000"}
            return "unknown_cancelled_item"
        if fault == "cancel_items":
            products = [item["product_id"] for item in stated["items"] if (item["product_id"] or "").strip()]
            if products:
                whose = {"transaction_id": own} if chance.random() < 0.5 else {}
                stated["cancel_item"] = whose | {"product_id": chance.choice(products)}
        elif fault == "refunds":
            until = at.replace(hour=23, minute=59, second=59)
            stated["refund"] = self._refund(own, sold, min(until, at + timedelta(seconds=chance.randrange(7_200))))
        elif fault == "unknown_refunds":
            stated["refund"] = self._refund("TXN_000000", sold)
        elif fault == "excess_refunds":
            stated["refund"] = self._refund(own, 2 * sold + 1)
        elif fault == "broken_refunds":
            stated["refund"] = self._refund(own, sold)
            if chance.random() < 0.3:
                stated["refund"] = chance.choice(("yes", 12.5, True, [stated["refund"]]))
            elif chance.random() < 0.3:
                self._leave_out(stated["refund"], "refund_amount", None, "")
            else:
                stated["refund"]["refund_amount"] = chance.choice((0, -1.5, "all"))
        return None

    def _refund(self, transaction: str, amount: Decimal, at: datetime | None = None) -> Stated:
        refund: Stated = {"transaction_id": transaction, "refund_amount": float(amount)}
        if self.chance.random() < 0.7:
            refund["refund_method"] = self.chance.choice(_METHODS)
        return refund | {"timestamp": f"{at:%Y-%m-%dT%H:%M:%S}Z"} if at else refund

    def _leave_out(self, stated: Stated, name: str, *instead: Any) -> None:
        """Takes the field away, or puts one of these for it."""
        stated.pop(name)
        choice = self.chance.randrange(len(instead) + 1)
        if choice < len(instead):
            stated[name] = instead[choice]


_BAD_FIELDS: tuple[tuple[str, Any, str], ...] = (
    ("product_id", None, "missing_product_id"),
    ("product_id", " ", "missing_product_id"),
    ("price", None, "missing_price"),
    ("price", 0, "price_not_positive"),
    ("price", -2.5, "price_not_positive"),
    ("price", "free", "bad_price"),
    ("quantity", None, "missing_quantity"),
    ("quantity", 0, "quantity_not_positive"),
    ("quantity", -1, "quantity_not_positive"),
    ("quantity", "two", "bad_quantity"),
)


def _amount(item: Stated) -> Decimal:
    return max(round(Decimal(str(item["price"])) * Decimal(str(item["quantity"])), 2), Decimal("0.01"))


def _total(items: Iterator[Stated]) -> Decimal:
    """What the till says the sound lines come to; cancelled ones count nothing."""
    return sum((_amount(item) for item in items if not item.get("canceled")), Decimal(0))
