"""The oracle of the till against what it has to mean: receipts and days that can be checked by eye."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from generator.objects import GeneratedObject
from generator.till_truth import TillTruth, daily_sales, lines, till_truth
from generator.truth import Account

COFFEE = {"product_id": "coffee", "price": 2.5, "quantity": 2}
CAKE = {"product_id": "cake", "price": 4, "quantity": 1}


def receipt(transaction: Any, *items: Any, **more: Any) -> dict[str, Any]:
    """A sound receipt of store s1 at noon of the first of March; two coffees, 5.00, if it says nothing else."""
    stated = {"store_id": "s1", "city": "Oslo", "transaction_id": transaction, "timestamp": "2026-03-01T12:00:00Z"}
    return stated | {"items": [*items] or [COFFEE], "payment_method": "card", "refund": None} | more


def sent(name: str, *receipts: dict[str, Any] | str, unreadable: bool = False) -> GeneratedObject:
    """One sending of receipts, or of text as it is, one after another."""
    text = "".join(each if isinstance(each, str) else json.dumps(each) for each in receipts)
    return GeneratedObject(name, text.encode(), 0, datetime(2026, 3, 1), unreadable=unreadable)


def sales(*objects: GeneratedObject) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in daily_sales(objects)]


def day(number: int, *numbers: str | int, store: str = "s1", currency: str = "USD") -> tuple[Any, ...]:
    """Of March: transactions and lines; units, gross, refunds and net as text."""
    return (date(2026, 3, number), store, currency, *(n if isinstance(n, int) else Decimal(n) for n in numbers))


def reasons(result: TillTruth, name: str = "a") -> dict[tuple[int, int], set[str]]:
    return {at: {*codes} for (key, _), of in result.refused.items() if key == name for at, codes in of.items()}


def reasons_of(*receipts: dict[str, Any] | str) -> dict[tuple[int, int], set[str]]:
    return reasons(till_truth([sent("a", *receipts)]))


def accounts(result: TillTruth, unit: str) -> list[tuple[str, Account]]:
    """By key, in the order of arrival."""
    return [(key, account) for (key, _, counted), account in result.accounts.items() if counted == unit]


# --- days -------------------------------------------------------------------------------------------------------------


def test_a_receipt_is_a_transaction_and_its_lines_are_summed() -> None:
    one, two = receipt("t1", COFFEE, CAKE), receipt("t2", CAKE)
    assert sales(sent("a", one, two)) == [day(1, 2, 3, "4", "13", "0", "13")]


def test_stores_count_their_own_transactions() -> None:
    assert sales(sent("a", receipt("t1"), receipt("t1", store_id="s2"))) == [
        day(1, 1, 1, "2", "5", "0", "5"),
        day(1, 1, 1, "2", "5", "0", "5", store="s2"),
    ]


def test_the_same_product_twice_in_a_receipt_is_two_lines() -> None:
    assert sales(sent("a", receipt("t1", COFFEE, COFFEE))) == [day(1, 1, 2, "4", "10", "0", "10")]


def test_currencies_are_kept_apart_and_dollars_are_understood() -> None:
    euros = receipt("t2", currency="EUR")
    assert sales(sent("a", receipt("t1"), euros)) == [
        day(1, 1, 1, "2", "5", "0", "5", currency="EUR"),
        day(1, 1, 1, "2", "5", "0", "5"),
    ]


def test_the_day_is_that_of_utc() -> None:
    assert sales(sent("a", receipt("t1", timestamp="2026-03-02T01:30:00+02:00"))) == [day(1, 1, 1, "2", "5", "0", "5")]


def test_a_refund_counts_on_its_own_day_though_it_stands_on_the_receipt() -> None:
    back = {"transaction_id": "t1", "refund_amount": 2.5, "timestamp": "2026-03-03T09:00:00Z"}
    assert sales(sent("a", receipt("t1", refund=back))) == [
        day(1, 1, 1, "2", "5", "0", "5"),
        day(3, 0, 0, "0", "0", "2.5", "-2.5"),
    ]


@pytest.mark.parametrize("nothing", [{"items": []}, {"items": None}])
def test_a_receipt_of_a_refund_alone_makes_a_day_and_has_the_receipts_time(nothing: dict[str, Any]) -> None:
    back = receipt("t2", timestamp="2026-03-04T08:00:00Z", refund={"transaction_id": "t1", "refund_amount": 5})
    assert sales(sent("a", back | nothing)) == [day(4, 0, 0, "0", "0", "5", "-5")]


def test_a_refund_on_the_day_of_the_sale_is_taken_off() -> None:
    back = receipt("t1", refund={"transaction_id": "t1", "refund_amount": 1})
    assert sales(sent("a", back)) == [day(1, 1, 1, "2", "5", "1", "4")]


def test_a_refund_of_an_unknown_transaction_or_of_more_than_was_sold_counts() -> None:
    back = receipt("t1", refund={"transaction_id": "t9", "refund_amount": 70})
    assert sales(sent("a", back)) == [day(1, 1, 1, "2", "5", "70", "-65")]


def test_cancelled_lines_count_nothing() -> None:
    marked = receipt("t1", {**COFFEE, "canceled": True}, CAKE)
    assert sales(sent("a", marked)) == [day(1, 1, 1, "1", "4", "0", "4")]
    assert sales(sent("a", receipt("t1", {**COFFEE, "canceled": True}))) == []


def test_what_is_cancelled_afterwards_is_the_last_line_of_the_product() -> None:
    cancel = {"transaction_id": "t1", "product_id": "coffee"}
    stated = receipt("t1", COFFEE, {**COFFEE, "quantity": 3}, CAKE, cancel_item=cancel)
    assert [line["kind"] for line in lines([sent("a", stated)])] == ["sale", "cancelled", "sale"]
    assert sales(sent("a", stated)) == [day(1, 1, 2, "3", "9", "0", "9")]


def test_what_is_cancelled_afterwards_is_the_marked_line_if_there_is_one() -> None:
    stated = receipt("t1", {**COFFEE, "canceled": True}, COFFEE, cancel_item={"product_id": "coffee"})
    assert [line["kind"] for line in lines([sent("a", stated)])] == ["cancelled", "sale"]


def test_an_amount_is_rounded_half_up_to_four_places() -> None:
    weighed = {"product_id": "nuts", "price": 2.99, "quantity": 0.335}  # 1.00165
    (line,) = lines([sent("a", receipt("t1", weighed))])
    assert (line["quantity"], line["unit_price"], line["amount"]) == (
        Decimal("0.335"),
        Decimal("2.99"),
        Decimal("1.0017"),
    )


def test_a_line_has_the_columns_of_the_table() -> None:
    back = {"transaction_id": "t0", "refund_amount": 1, "refund_method": "cash"}
    assert lines([sent("a", receipt("t1", customer_id=" c7 ", refund=back))]) == [
        {
            "store_id": "s1",
            "transaction_id": "t1",
            "line": number,
            "kind": kind,
            "product_id": product,
            "quantity": quantity,
            "unit_price": price,
            "amount": amount,
            "currency": "USD",
            "customer_id": "c7",
            "city": "Oslo",
            "payment_method": method,
            "refund_of": refund_of,
            "sold_at": datetime(2026, 3, 1, 12),
            "sales_date": date(2026, 3, 1),
        }
        for number, kind, product, quantity, price, amount, method, refund_of in [
            (0, "refund", None, None, None, 1, "cash", "t0"),
            (1, "sale", "coffee", 2, 2.5, 5, "card", None),
        ]
    ]


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_receipt_sent_again_in_a_later_object_is_a_duplicate() -> None:
    result = till_truth([sent("a", receipt("t1", COFFEE, CAKE)), sent("b", receipt("t2"), receipt("t1", COFFEE, CAKE))])
    assert [row["gross_revenue"] for row in result.sales] == [14]
    assert accounts(result, "row") == [("a", Account(1, 1)), ("b", Account(2, 1, 0, 1))]
    assert accounts(result, "line") == [("a", Account(2, 2)), ("b", Account(3, 1, 0, 2))]
    assert result.replaced == []


def test_a_corrected_line_of_a_later_object_replaces_the_former() -> None:
    wrong, right = receipt("t1", COFFEE, CAKE), receipt("t1", {**COFFEE, "quantity": 3}, CAKE)
    result = till_truth([sent("b", wrong), sent("a", right)])
    assert sales(sent("b", wrong), sent("a", right)) == [day(1, 1, 2, "4", "11.5", "0", "11.5")]
    (lost,) = result.replaced
    assert (lost["line"], lost["quantity"], lost["_key"], lost["winner_key"]) == (1, 2, "b", "a")
    assert accounts(result, "line") == [("b", Account(2, 2)), ("a", Account(2, 1, 0, 1))]


def test_a_corrected_line_leaves_lines_that_the_later_receipt_does_not_have() -> None:
    assert sales(sent("a", receipt("t1", COFFEE, CAKE)), sent("b", receipt("t1", CAKE))) == [
        day(1, 1, 2, "2", "8", "0", "8")
    ]


def test_a_refused_line_replaces_nothing() -> None:
    assert sales(sent("a", receipt("t1")), sent("b", receipt("t1", {**COFFEE, "price": 0}))) == [
        day(1, 1, 1, "2", "5", "0", "5")
    ]


def test_a_corrected_line_can_move_to_another_day() -> None:
    assert sales(sent("a", receipt("t1")), sent("b", receipt("t1", timestamp="2026-03-02T12:00:00Z"))) == [
        day(2, 1, 1, "2", "5", "0", "5")
    ]


def test_the_key_decides_between_objects_of_one_instant() -> None:
    objects = [sent("b", receipt("t1", CAKE)), sent("a", receipt("t1", COFFEE))]
    noon = datetime(2026, 3, 1, 12)
    assert till_truth(objects).lines[0]["product_id"] == "coffee"
    assert till_truth(objects, {"a": noon, "b": noon}).lines[0]["product_id"] == "cake"
    assert till_truth(objects, {"a": noon, "b": datetime(2026, 3, 1)}).lines[0]["product_id"] == "coffee"


def test_the_later_record_of_an_object_counts() -> None:
    result = till_truth([sent("a", receipt("t1", COFFEE), receipt("t1", CAKE))])
    assert [line["product_id"] for line in result.lines] == ["cake"]
    assert [(row["product_id"], row["_key"], row["winner_key"]) for row in result.replaced] == [("coffee", "a", "a")]


def test_a_content_that_comes_back_is_not_listed_as_replaced() -> None:
    first, second = receipt("t1", COFFEE), receipt("t1", CAKE)
    result = till_truth([sent("a", first), sent("b", second), sent("c", first), sent("d", first)])
    assert [(row["product_id"], row["_key"], row["winner_key"]) for row in result.replaced] == [("cake", "b", "d")]


def test_an_object_cut_in_half_is_replaced_by_the_whole_one() -> None:
    cut = sent("a", receipt("t1"), '{"store_')
    whole = sent("a", receipt("t1"), receipt("t2"))
    result = till_truth([cut, whole])
    assert sales(cut, whole) == [day(1, 2, 2, "4", "10", "0", "10")]
    assert reasons(result) == {(2, -1): {"broken_json"}}
    assert accounts(result, "row") == [("a", Account(2, 1, 1)), ("a", Account(2, 2))]
    assert result.total("row") == Account(2, 2)
    assert result.total("line") == Account(2, 2)


def test_what_the_whole_object_no_longer_says_is_gone() -> None:
    assert sales(sent("a", receipt("t1"), receipt("t2")), sent("a", receipt("t2", CAKE))) == [
        day(1, 1, 1, "1", "4", "0", "4")
    ]


def test_what_a_replaced_object_was_accepted_for_passes_to_the_next_that_stands() -> None:
    result = till_truth([sent("a", receipt("t1")), sent("b", receipt("t1")), sent("a", receipt("t1"), receipt("t2"))])
    assert accounts(result, "line") == [("a", Account(1, 1)), ("b", Account(1, 1)), ("a", Account(2, 1, 0, 1))]
    assert result.total("line") == Account(3, 2, 0, 1)


def test_what_a_replaced_object_no_longer_says_was_first_said_by_another() -> None:
    result = till_truth([sent("a", receipt("t1")), sent("b", receipt("t1")), sent("a", receipt("t2"))])
    assert accounts(result, "line") == [("a", Account(1, 1)), ("b", Account(1, 1)), ("a", Account(1, 1))]
    assert result.total("line") == Account(2, 2)


def test_the_same_bytes_under_the_same_name_are_the_same_object() -> None:
    objects = [sent("a", receipt("t1")), sent("b", receipt("t1", CAKE)), sent("a", receipt("t1"))]
    assert till_truth(objects).lines[0]["product_id"] == "cake"
    assert accounts(till_truth(objects), "row") == [("a", Account(1, 1)), ("b", Account(1, 1))]


def test_bytes_that_come_back_are_an_error() -> None:
    objects = [sent("a", receipt("t1")), sent("a", receipt("t2")), sent("a", receipt("t1"))]
    with pytest.raises(ValueError, match=r"a: the bytes of .* come back after others"):
        till_truth(objects)


def test_an_unreadable_object_has_no_records_and_replaces_nothing() -> None:
    objects = [sent("a", receipt("t1")), sent("a", "\x1f\x8b", unreadable=True)]
    result = till_truth(objects)
    assert sales(*objects) == [day(1, 1, 1, "2", "5", "0", "5")]
    assert accounts(result, "row") == [("a", Account(1, 1)), ("a", Account())]
    assert result.total("row") == Account(1, 1)


def test_a_zipped_object_reads_like_a_plain_one() -> None:
    plain = sent("a", receipt("t1"))
    zipped = GeneratedObject("a", gzip.compress(plain.body), 0, plain.modified)
    assert lines([zipped]) == lines([plain])


# --- refused ----------------------------------------------------------------------------------------------------------


def line(**changed: Any) -> dict[str, Any]:
    return {**COFFEE, **changed}


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (receipt("t1", store_id=None), {(1, 1): {"missing_key:store_id"}}),
        (receipt(" "), {(1, 1): {"missing_key:transaction_id"}}),
        (receipt("t1", timestamp=""), {(1, 1): {"missing_event_time"}}),
        (receipt("t1", timestamp="2026-02-30T12:00:00Z"), {(1, 1): {"bad_event_time"}}),
        (receipt("t1", timestamp=1772366400), {(1, 1): {"bad_event_time"}}),
        (receipt("t1", currency="euro"), {(1, 1): {"bad_currency"}}),
        (receipt("t1", line(product_id=None)), {(1, 1): {"missing_product_id"}}),
        (receipt("t1", line(price=None)), {(1, 1): {"missing_price"}}),
        (receipt("t1", line(price="free")), {(1, 1): {"bad_price"}}),
        (receipt("t1", line(price=0)), {(1, 1): {"price_not_positive"}}),
        (receipt("t1", line(price=-1)), {(1, 1): {"price_not_positive"}}),
        (receipt("t1", line(price=0.00004)), {(1, 1): {"price_not_positive"}}),
        (receipt("t1", line(price=100_000_000_000)), {(1, 1): {"bad_price"}}),
        (receipt("t1", line(price=10_000_000_000, quantity=10_000)), {(1, 1): {"amount_too_large"}}),
        (receipt("t1", line(quantity=None)), {(1, 1): {"missing_quantity"}}),
        (receipt("t1", line(quantity="two")), {(1, 1): {"bad_quantity"}}),
        (receipt("t1", line(quantity=0)), {(1, 1): {"quantity_not_positive"}}),
        (receipt("t1", line(canceled="maybe")), {(1, 1): {"bad_cancelled"}}),
        (receipt("t1", line(price=0, quantity=-1), CAKE), {(1, 1): {"price_not_positive", "quantity_not_positive"}}),
        (receipt("t1", 5), {(1, 1): {"missing_product_id", "missing_price", "missing_quantity"}}),
        (receipt("t1", items=[]), {(1, -1): {"no_items"}}),
        (receipt("t1", items=None), {(1, -1): {"no_items"}}),
        (receipt("t1", items="x"), {(1, -1): {"bad_items"}}),
        (receipt("t1", items={}, store_id=None), {(1, -1): {"bad_items", "missing_key:store_id"}}),
        (receipt("t1", refund="yes"), {(1, 0): {"bad_refund"}}),
        (receipt("t1", refund={}), {(1, 0): {"missing_refund_amount"}}),
        (receipt("t1", refund={"refund_amount": "all"}), {(1, 0): {"bad_refund_amount"}}),
        (receipt("t1", refund={"refund_amount": 0}), {(1, 0): {"refund_not_positive"}}),
        (receipt("t1", refund={"refund_amount": 1, "timestamp": "soon"}), {(1, 0): {"bad_event_time"}}),
        (receipt("t1", cancel_item={"product_id": "cake"}), {(1, 1): {"unknown_cancelled_item"}}),
        (receipt("t1", cancel_item="coffee"), {(1, 1): {"unknown_cancelled_item"}}),
        (
            receipt("t1", cancel_item={"transaction_id": "t2", "product_id": "coffee"}),
            {(1, 1): {"unknown_cancelled_item"}},
        ),
        (
            receipt("t1", COFFEE, CAKE, cancel_item={"product_id": "tea"}),
            {(1, 1): {"unknown_cancelled_item"}, (1, 2): {"unknown_cancelled_item"}},
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_with_every_reason(
    stated: dict[str, Any], expected: dict[tuple[int, int], set[str]]
) -> None:
    assert reasons_of(stated) == expected


def test_nothing_is_refused_for_what_another_line_or_the_refund_says() -> None:
    assert sales(sent("a", receipt("t1", line(price=0), CAKE, refund={"refund_amount": -1}))) == [
        day(1, 1, 1, "1", "4", "0", "4")
    ]


def test_a_number_may_come_as_text() -> None:
    assert sales(sent("a", receipt("t1", line(price="0.10", quantity=" 3 ")))) == [day(1, 1, 1, "3", "0.3", "0", "0.3")]


def test_a_receipt_counts_as_refused_if_none_of_its_lines_is_taken() -> None:
    half, none = receipt("t1", line(price=0), CAKE), receipt("t2", line(price=0), line(quantity=0))
    result = till_truth([sent("a", half, none, receipt("t3", items=[]))])
    assert result.total("row") == Account(3, 1, 2)
    assert result.total("line") == Account(4, 1, 3)


def test_broken_text_is_one_record_up_to_the_next_object_and_counts_in_the_number() -> None:
    result = till_truth([sent("a", receipt("t1"), '{"store_id":"s', receipt("t2", items=[]), "\n{", '{"st', " ")])
    assert reasons(result) == {(2, -1): {"broken_json"}, (3, -1): {"no_items"}, (4, -1): {"broken_json"}}
    assert result.total("row") == Account(4, 1, 3)
    assert result.total("line") == Account(1, 1)
