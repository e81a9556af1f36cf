"""Expectations: what may be declared, and what is learned from history."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c360_assets.declared import DeclarationError
from c360_assets.expectations import check_imputation, silent_since, take_expectations, unusual_volumes

COLUMNS = ("id", "price", "quantity", "total")
HOUR = timedelta(hours=1)
START = datetime(2024, 1, 1)


def test_rules_are_named_after_their_column_and_warn_unless_they_are_to_block() -> None:
    declared = [
        {"column": "price", "at_least": 0},
        {"column": "price", "null_share": 0.1, "severity": "block"},
        {"column": "id", "one_of": ["a", "b"]},
        {"volume": "learned"},
    ]
    found = take_expectations("here", declared, COLUMNS, False)
    assert [(e.name, e.blocks) for e in found] == [
        ("at_least_price", False),
        ("null_share_price", True),
        ("one_of_id", False),
        ("volume", False),
    ]
    assert "at least 0" in found[0].text and "a, b" in found[2].text


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"column": "price"}, "give one rule of: null_share, at_least"),
        ({"column": "price", "at_least": 0, "at_most": 1}, "give one rule of"),
        ({"column": "prize", "at_least": 0}, "column: 'prize' is not declared; there are: id, price"),
        ({"at_least": 0}, "at_least: needs a column"),
        ({"column": "price", "volume": "learned"}, "volume: is about whole objects"),
        ({"column": "price", "null_share": 1.5}, "null_share: 1.5 is no share from 0 to 1"),
        ({"column": "price", "at_least": "0"}, "at_least: '0' is no number"),
        ({"volume": "guessed"}, "volume: 'guessed' is not known; it may be: learned"),
        ({"freshness": "learned", "severity": "block"}, "freshness: can only warn"),
        ({"volume": "learned", "severity": "stop"}, "severity: 'stop' is not known; it may be: warn, block"),
        ({"volume": "learned", "severe": True}, "severe: is not known"),
    ],
)
def test_a_wrong_rule_is_told_with_its_place(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError) as error:
        take_expectations("feed 'x'", [{"freshness": "learned"}, declared], COLUMNS, False)
    assert str(error.value).startswith("feed 'x': expect: 2") and said in str(error.value)


def test_a_rule_stands_once_and_not_inside_a_document() -> None:
    rule = {"column": "price", "at_least": 0}
    with pytest.raises(DeclarationError, match="expect: 2: 'at_least_price' stands twice"):
        take_expectations("here", [rule, rule], COLUMNS, False)
    with pytest.raises(DeclarationError, match="'price' stands in the payload"):
        take_expectations("here", [rule], ("payload",), True)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"total": {"product_of": ["price", "amount"]}}, "impute: total: column 'amount' is not declared"),
        ({"totals": {"value": "0"}}, "impute: totals: column 'totals' is not declared"),
        ({"total": {"value": "0", "column": "price"}}, "impute: total: give one of: value, column, product_of"),
        ({"total": {}}, "impute: total: give one of"),
        ({"total": {"column": "price"}, "price": {"value": "1"}}, "impute: total: 'price' is imputed itself"),
        ({"id": {"value": "none"}}, "impute: id: is required"),
        ({"total": {"median": True}}, "median: is not known; there are: column, product_of, value"),
    ],
)
def test_a_wrong_imputation_is_told_with_its_place(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError) as error:
        check_imputation("here", declared, COLUMNS, {"id"}, "upsert", False)
    assert said in str(error.value)


def test_what_states_only_a_part_is_not_imputed() -> None:
    with pytest.raises(DeclarationError, match="a null is 'not given' there"):
        check_imputation("here", {"total": {"value": "0"}}, COLUMNS, {"id"}, "partial", False)


def test_an_object_is_held_against_those_before_it() -> None:
    sizes = [100, 96, 104, 98, 101, 99, 103, 97, 12, 100, 900]
    # What is learned from eight: the ninth is too small, the eleventh too large, and neither moves the bounds much.
    assert unusual_volumes(sizes, range(len(sizes))) == [(8, 50, 199), (10, 50, 199)]
    assert unusual_volumes(sizes, [9]) == []


def test_seven_objects_teach_nothing() -> None:
    assert unusual_volumes([100] * 7 + [1], [7]) == []


def test_sizes_that_vary_are_given_room() -> None:
    sizes = [10, 100, 20, 300, 40, 50, 200, 15]
    assert unusual_volumes([*sizes, 500], [8]) == [] and unusual_volumes([*sizes, 500_000], [8]) != []


@given(
    before=st.lists(st.integers(0, 10**6), min_size=8, max_size=40),
    size=st.integers(0, 10**6),
    after=st.lists(st.integers(0, 10**6), max_size=5),
)
def test_neither_itself_nor_what_comes_after_moves_the_bounds(before: list[int], size: int, after: list[int]) -> None:
    place = len(before)
    found = unusual_volumes([*before, size, *after], [place])
    assert found == unusual_volumes([*before, size], [place])
    for _, least, most in found:
        # Another object that far out is told with the same bounds, whatever its own size.
        farther = size * 10 if size > most else 0
        assert unusual_volumes([*before, farther], [place]) == [(place, least, most)]
        assert size < least or size > most


def test_a_feed_is_late_after_twice_its_longest_silence() -> None:
    daily = [START + 24 * HOUR * day for day in range(9)]
    weekend = [*daily, daily[-1] + 72 * HOUR]
    last = weekend[-1]
    assert silent_since(weekend, last + 144 * HOUR) is None
    assert silent_since(weekend, last + 145 * HOUR) == (last, 144 * HOUR)
    assert silent_since(daily, daily[-1] + 49 * HOUR) == (daily[-1], 48 * HOUR)
    assert silent_since(daily[:8], daily[-1] + 1000 * HOUR) is None
