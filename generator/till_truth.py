"""The expected lines, daily sales and accounts of receipts, in plain Python: the oracle of the tests of the till.

It favours being obviously right over being fast, and shares no code with the SQL it judges. Receipts stand one after
another in an object, never in an array.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, TypeAlias

from generator.objects import GeneratedObject
from generator.truth import Account
from generator.values import BLANKS, instant

Row: TypeAlias = dict[str, Any]

CURRENCY = "USD"
"""Of a receipt that states none."""
LARGEST_PRICE = Decimal(10) ** 11
LARGEST_AMOUNT = Decimal(10) ** 14
NO_LINE = -1
"""The line of a receipt of which no lines can be told."""

LINE_KEY = ("store_id", "transaction_id", "line")
COLUMNS = (*LINE_KEY, "kind", "product_id", "quantity", "unit_price", "amount", "currency",
           "customer_id", "city", "payment_method", "refund_of", "sold_at", "sales_date")  # fmt: skip
_OF_RECEIPT = ("store_id", "transaction_id", "customer_id", "city", "payment_method")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_TRUE, _FALSE = ("true", "t", "1", "yes"), ("false", "f", "0", "no")


@dataclass(frozen=True)
class TillTruth:
    """What objects must come to.

    `lines`: the standing lines, with COLUMNS. `sales`: a row per day, store and
    currency. `replaced`: a row per line and content that another copy outdid, with the `_key` of the newest object that
    stated it and the `winner_key`. `refused`: for each object version (key, etag) the reasons by record (from 1) and
    line, which is -1 where a record has none. `accounts`: by key, etag and unit (row, line), if every object is read
    before the next is sent; if all are read at once, give them in the order of their keys.
    """

    lines: list[Row]
    sales: list[Row]
    replaced: list[Row]
    refused: dict[tuple[str, str], dict[tuple[int, int], frozenset[str]]]
    accounts: dict[tuple[str, str, str], Account]
    standing: frozenset[tuple[str, str]]

    def total(self, unit: str) -> Account:
        """The sums over the objects that stand, whenever they were read."""
        each = [self.accounts[key, etag, unit] for key, etag in self.standing]
        return Account(**{of.name: sum(getattr(account, of.name) for account in each) for of in fields(Account)})


def lines(objects: Iterable[GeneratedObject]) -> list[Row]:
    """The standing lines; see TillTruth."""
    return till_truth(objects).lines


def daily_sales(objects: Iterable[GeneratedObject]) -> list[Row]:
    """Sales and refunds by day, store and currency; see TillTruth."""
    return till_truth(objects).sales


def till_truth(objects: Iterable[GeneratedObject], modified: Mapping[str, datetime] | None = None) -> TillTruth:
    """What objects in the order of sending must come to. The same key and bytes again are the same object.

    Which object is newer tells the order of sending, or `modified` (by key) with the key.

    Raises:
        ValueError: if a key's former bytes come back after others.
    """
    versions = _versions(objects)
    present = {version.key: version for version in versions if version.records is not None}
    copies = [copy for version in versions if present.get(version.key) is version for copy in version.copies]
    newest: dict[tuple[Any, ...], list[_Copy]] = defaultdict(list)
    for copy in sorted(copies, key=lambda copy: _age(copy, modified)):
        newest[_line_key(copy.line)].append(copy)
    standing = {key: of[-1] for key, of in sorted(newest.items())}
    return TillTruth(
        lines=[copy.line for copy in standing.values()],
        sales=_sales(copy.line for copy in standing.values()),
        replaced=[row for key, winner in standing.items() for row in _replaced(newest[key], winner)],
        refused={(version.key, version.etag): version.refused for version in versions},
        accounts={
            (version.key, version.etag, unit): account
            for unit in ("row", "line")
            for version, account in _accounts(versions, unit)
        },
        standing=frozenset((version.key, version.etag) for version in present.values()),
    )


def _age(copy: _Copy, modified: Mapping[str, datetime] | None) -> tuple[Any, ...]:
    key = copy.version.key
    return (modified[key] if modified is not None else copy.version.arrival, key, copy.record)


def _line_key(line: Row) -> tuple[Any, ...]:
    return tuple(line[name] for name in LINE_KEY)


def _sales(standing: Iterable[Row]) -> list[Row]:
    days: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for line in standing:
        if line["kind"] in ("sale", "refund"):
            days[line["sales_date"], line["store_id"], line["currency"]].append(line)
    rows = []
    for (day, store, currency), of_day in sorted(days.items()):
        sold = [line for line in of_day if line["kind"] == "sale"]
        gross = sum((line["amount"] for line in sold), Decimal(0))
        refunds = sum((line["amount"] for line in of_day if line["kind"] == "refund"), Decimal(0))
        rows.append(
            {
                "sales_date": day,
                "store_id": store,
                "currency": currency,
                "count_transactions": len({line["transaction_id"] for line in sold}),
                "count_lines": len(sold),
                "units_sold": sum((line["quantity"] for line in sold), Decimal(0)),
                "gross_revenue": gross,
                "refunds": refunds,
                "net_revenue": gross - refunds,
            }
        )
    return rows


def _replaced(copies: list[_Copy], winner: _Copy) -> list[Row]:
    """The contents that lost, each as the newest of its copies states it. The copies come oldest first."""
    lost = {copy.content: copy for copy in copies if copy.content != winner.content}
    return [copy.line | {"_key": copy.version.key, "winner_key": winner.version.key} for copy in lost.values()]


# --- objects ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Version:
    """What a key held from one sending on; no records (None) if it cannot be read."""

    key: str
    etag: str
    arrival: int
    records: list[tuple[str, Row | None]] | None  # each as text and, unless it is broken, as what it states
    copies: list[_Copy]
    receipts: list[str]  # the records of which a line was taken
    refused: dict[tuple[int, int], frozenset[str]]
    count_lines: int = 0


@dataclass(frozen=True, eq=False)
class _Copy:
    """A line that can be taken, where an object's record (from 1) states it."""

    line: Row
    version: _Version
    record: int

    @property
    def content(self) -> tuple[Any, ...]:
        return tuple(self.line.values())


def _versions(objects: Iterable[GeneratedObject]) -> list[_Version]:
    versions: dict[tuple[str, str], _Version] = {}
    there: dict[str, str] = {}
    for arrival, sent in enumerate(objects):
        etag = hashlib.md5(sent.body, usedforsecurity=False).hexdigest()
        if there.get(sent.name) == etag:
            continue
        if (sent.name, etag) in versions:
            raise ValueError(f"{sent.name}: the bytes of {etag} come back after others: not known here")
        there[sent.name] = etag
        records = None if sent.unreadable else list(_records(sent))
        version = versions[sent.name, etag] = _Version(sent.name, etag, arrival, records, [], [], {})
        for record, (text, receipt) in enumerate(records or [], start=1):
            _take(version, record, text, receipt)
    return list(versions.values())


def _records(sent: GeneratedObject) -> Iterator[tuple[str, Row | None]]:
    """The objects in the text; what does not parse is one record up to the next `{` at which an object parses."""
    text = (gzip.decompress(sent.body) if sent.body[:2] == b"\x1f\x8b" else sent.body).decode().strip(BLANKS)
    at = 0
    while at < len(text):
        start = at
        while at < len(text) and (found := _object_at(text, at)) is None:
            brace = text.find("{", at + 1)
            at = brace if brace > 0 else len(text)
        if at > start:
            yield text[start:at], None
        if at < len(text) and found is not None:
            yield text[at : found[1]], found[0]
            at = found[1]
        while text[at : at + 1] and text[at] in BLANKS:
            at += 1


def _object_at(text: str, at: int) -> tuple[Row, int] | None:
    """The object at this place, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except ValueError:
        return None
    return (value, end) if isinstance(value, dict) else None


_DECODER = json.JSONDecoder(parse_float=Decimal)


def _take(version: _Version, record: int, text: str, receipt: Row | None) -> None:
    """Adds what a record comes to."""
    if receipt is None:
        version.refused[record, NO_LINE] = frozenset({"broken_json"})
        return
    taken = False
    for number, stated, reasons in _lines(receipt):
        version.count_lines += number != NO_LINE
        if reasons:
            version.refused[record, number] = frozenset(reasons)
        else:
            version.copies.append(_Copy(stated, version, record))
            taken = True
    if taken:
        version.receipts.append(text)


def _accounts(versions: list[_Version], unit: str) -> Iterator[tuple[_Version, Account]]:
    """What became of the records or lines of each version. Of equal ones the first that stands is accepted.

    Where that one's object is replaced, the next takes its place; the replaced object keeps what it was counted for.
    """
    accepted: Counter[_Version] = Counter()
    holders: dict[Any, _Version] = {}
    brought: dict[Any, list[_Version]] = defaultdict(list)
    present: dict[str, _Version] = {}
    for version in versions:
        if version.records is None:
            continue
        before = present.get(version.key)
        present[version.key] = version
        touched = {*_contents(version, unit), *(_contents(before, unit) if before else ())}
        for content in _contents(version, unit):
            brought[content].append(version)
        for content in touched:
            first = next((each for each in brought[content] if present[each.key] is each), None)
            if first is not None and holders.get(content) is not first:
                holders[content] = first
                accepted[first] += 1
    for version in versions:
        taken = len(_contents(version, unit))
        received = len(version.records or ()) if unit == "row" else version.count_lines
        yield version, Account(received, accepted[version], received - taken, taken - accepted[version])


def _contents(version: _Version, unit: str) -> list[Any]:
    """What says that two of them are equal: a receipt's text, a line's key and content."""
    return [*version.receipts] if unit == "row" else [copy.content for copy in version.copies]


# --- receipts ---------------------------------------------------------------------------------------------------------


def _lines(receipt: Row) -> Iterator[tuple[int, Row, set[str]]]:
    """Each line of a receipt: its number, what it says if it can be taken, and the reasons why it cannot."""
    items, refund = receipt.get("items"), receipt.get("refund")
    cancelled, unknown = _cancelled_item(receipt)
    for number, stated in enumerate(items if isinstance(items, list) else (), start=1):
        item = stated if isinstance(stated, dict) else {}
        is_cancelled = True if number == cancelled else _flag(item.get("canceled"))
        line, reasons = _line(receipt, number, receipt.get("timestamp"))
        product = line["product_id"] = _text(item.get("product_id"))
        price, price_reasons = _number(item.get("price"), "price", LARGEST_PRICE)
        quantity, quantity_reasons = _number(item.get("quantity"), "quantity", None)
        reasons |= price_reasons | quantity_reasons
        if unknown:
            reasons.add("unknown_cancelled_item")
        if product is None:
            reasons.add("missing_product_id")
        if is_cancelled is None:
            reasons.add("bad_cancelled")
        line["kind"] = "cancelled" if is_cancelled else "sale"
        line["unit_price"], line["quantity"] = price, quantity
        if price is not None and quantity is not None:
            if abs(price * quantity) >= LARGEST_AMOUNT:
                reasons.add("amount_too_large")
            else:
                line["amount"] = _rounded(price * quantity)
        yield number, line, reasons
    if refund is not None:
        stated = refund if isinstance(refund, dict) else {}
        time = stated.get("timestamp")
        line, reasons = _line(receipt, 0, receipt.get("timestamp") if _text(time) is None else time)
        line["kind"] = "refund"
        line["refund_of"] = _text(stated.get("transaction_id"))
        line["payment_method"] = _text(stated.get("refund_method")) or line["payment_method"]
        if isinstance(refund, dict):
            line["amount"], amount_reasons = _number(stated.get("refund_amount"), "refund_amount", LARGEST_PRICE)
            reasons |= amount_reasons
        else:
            reasons.add("bad_refund")
        yield 0, line, reasons
    if items is not None and not isinstance(items, list):
        line, reasons = _line(receipt, NO_LINE, receipt.get("timestamp"))
        yield NO_LINE, line, reasons | {"bad_items"}
    elif not items and refund is None:
        line, reasons = _line(receipt, NO_LINE, receipt.get("timestamp"))
        yield NO_LINE, line, reasons | {"no_items"}


def _line(receipt: Row, number: int, time: Any) -> tuple[Row, set[str]]:
    """What a line has of its receipt, beside its own fields, and the reasons that lie there."""
    reasons = set()
    moment = instant(_text(time) or "")
    currency = _text(receipt.get("currency")) or CURRENCY
    for name in ("store_id", "transaction_id"):
        if _text(receipt.get(name)) is None:
            reasons.add(f"missing_key:{name}")
    if _text(time) is None:
        reasons.add("missing_event_time")
    elif moment is None:
        reasons.add("bad_event_time")
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha() and currency.isupper()):
        reasons.add("bad_currency")
    stated = {
        "line": number,
        "currency": currency,
        "sold_at": moment,
        "sales_date": moment and moment.date(),
        **{name: _text(receipt.get(name)) for name in _OF_RECEIPT},
    }
    return {name: stated.get(name) for name in COLUMNS}, reasons


def _cancelled_item(receipt: Row) -> tuple[int | None, bool]:
    """The line that was cancelled afterwards, if one was, and whether what was cancelled is not known.

    It is the line of that product which is marked already, else the last one of that product.
    """
    cancel, items = receipt.get("cancel_item"), receipt.get("items")
    if cancel is None:
        return None, False
    stated = cancel if isinstance(cancel, dict) else {}
    product, own = _text(stated.get("product_id")), _text(receipt.get("transaction_id"))
    if product is None or own is None or (_text(stated.get("transaction_id")) or own) != own:
        return None, True
    numbered = [
        (number, item)
        for number, item in enumerate(items if isinstance(items, list) else (), start=1)
        if isinstance(item, dict) and _text(item.get("product_id")) == product
    ]
    marked = [number for number, item in numbered if _flag(item.get("canceled"))]
    last = max(marked or [number for number, _ in numbered], default=None)
    return last, last is None


# --- fields -----------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    """A field as text without blanks around it; None where nothing is left."""
    if value is None:
        return None
    return (str(value).lower() if isinstance(value, bool) else str(value)).strip(BLANKS) or None


def _flag(value: Any) -> bool | None:
    """Yes, no, or None for neither; no is what nothing means."""
    text = (_text(value) or "false").lower()
    return True if text in _TRUE else False if text in _FALSE else None


def _number(value: Any, name: str, below: Decimal | None) -> tuple[Decimal | None, set[str]]:
    """A number above 0 with four places, and the reasons why it is none."""
    text = _text(value)
    if text is None:
        return None, {f"missing_{name}"}
    if not _NUMBER.fullmatch(text) or abs(Decimal(text)) >= LARGEST_AMOUNT:
        return None, {f"bad_{name}"}
    number = _rounded(Decimal(text))
    reasons = {f"bad_{name}"} if below is not None and number >= below else set()
    if number <= 0:
        reasons.add(f"{name.removesuffix('_amount')}_not_positive")
    return number, reasons


def _rounded(number: Decimal) -> Decimal:
    return number.quantize(Decimal("0.0001"), ROUND_HALF_UP)
