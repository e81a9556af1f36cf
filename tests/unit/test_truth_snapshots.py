"""The oracle of snapshot feeds against cases that can be checked by eye.

Instants are small numbers, seconds since 1970; a key is a letter, a file a word: `snap(1, "ab")` has the keys a and b.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.snapshots import Snapshot, implied_deletes, judged
from generator.truth import Entity, Event, fold

EPOCH = datetime(1970, 1, 1)
HALF = Decimal("0.5")


def at(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def snap(when: int, keys: str, *, complete: bool = True, released: bool = False) -> Snapshot:
    return Snapshot(at(when), frozenset((key,) for key in keys), complete, released)


def truncate(when: int) -> Snapshot:
    return Snapshot(at(when), frozenset(), truncate=True)


def deletes(*files: Snapshot, guard: Decimal | None = None) -> list[tuple[int, str]]:
    events = implied_deletes(files, guard)
    assert {(event.op, event.position) for event in events} <= {("delete", None)}
    return [((event.event_time - EPOCH).seconds, *event.key) for event in events]


def verdicts(*files: Snapshot, guard: Decimal | None = HALF) -> list[tuple[int, bool, int, int]]:
    return [((v.instant - EPOCH).seconds, v.standing, v.missing, v.of) for v in judged(files, guard)]


# --- deletes ----------------------------------------------------------------------------------------------------------


def test_a_complete_file_deletes_at_its_instant_what_it_lacks() -> None:
    assert deletes(snap(1, "ab"), snap(2, "a")) == [(2, "b")]


def test_nothing_is_deleted_by_the_first_file_or_by_one_that_has_all() -> None:
    assert deletes(snap(1, "ab")) == []
    assert deletes(snap(1, "ab"), snap(2, "abc")) == []


def test_every_later_file_deletes_again_what_the_feed_ever_had() -> None:
    assert deletes(snap(1, "ab"), snap(2, "a"), snap(3, "ac"), snap(4, "a")) == [(2, "b"), (3, "b"), (4, "b"), (4, "c")]


def test_a_key_that_comes_back_is_deleted_while_it_was_away() -> None:
    assert deletes(snap(1, "ab"), snap(2, "a"), snap(3, "ab")) == [(2, "b")]


def test_a_key_that_comes_later_in_an_older_file_is_deleted_by_the_newer_ones() -> None:
    assert deletes(snap(2, "a"), snap(3, "a"), snap(1, "ab")) == [(2, "b"), (3, "b")]


def test_a_key_known_from_later_instants_only_is_not_deleted() -> None:
    assert deletes(snap(1, "a"), snap(2, "ab")) == []


def test_of_a_key_known_from_the_instant_of_a_truncate_only_the_order_of_events_decides() -> None:
    assert deletes(truncate(1), snap(1, "a")) == [(1, "a")]


def test_a_truncate_deletes_at_its_position_the_greatest_of_its_instant() -> None:
    files = [snap(1, "a"), *(replace(truncate(2), position=at) for at in (None, (Decimal(5),), (Decimal(4),)))]
    assert [event.position for event in implied_deletes(files, None)] == [(Decimal(5),)]


def test_what_comes_at_the_instant_of_a_truncate_and_before_its_position_goes_with_it() -> None:
    truncated = replace(truncate(1), position=(Decimal(6),))
    for position, stands in ((5, False), (7, True)):
        row = Event(("a",), at(1), "upsert", {"city": "Rome"}, (Decimal(position),))
        truth = fold(Entity(("id",), ("city",)), [row, *implied_deletes([snap(1, "a"), truncated], None)])
        assert bool(truth.current) is stands


def test_an_empty_complete_file_deletes_all() -> None:
    assert deletes(snap(1, "ab"), snap(2, "")) == [(2, "a"), (2, "b")]


def test_an_incomplete_file_deletes_nothing_but_its_keys_are_the_feeds() -> None:
    assert deletes(snap(1, "ab"), snap(2, "c", complete=False)) == []
    assert deletes(snap(1, "ab"), snap(2, "c", complete=False), snap(3, "ab")) == [(3, "c")]


def test_a_key_of_several_columns_is_one_key() -> None:
    files = [Snapshot(at(1), frozenset({("a", "1"), ("a", "2")})), Snapshot(at(2), frozenset({("a", "2")}))]
    assert implied_deletes(files, None) == [Event(("a", "1"), at(2), "delete")]


# --- one instant ------------------------------------------------------------------------------------------------------


def test_files_of_one_instant_are_one_set() -> None:
    assert deletes(snap(1, "abc"), snap(2, "a"), snap(2, "b")) == [(2, "c")]
    assert verdicts(snap(1, "abc"), snap(2, "a"), snap(2, "b")) == [(1, True, 0, 0), (2, True, 1, 3)]


def test_a_set_is_complete_only_if_all_its_files_are() -> None:
    files = snap(1, "abc"), snap(2, "a"), snap(2, "b", complete=False)
    assert deletes(*files) == []
    assert verdicts(*files) == [(1, True, 0, 0)]


def test_the_release_of_one_file_releases_its_set() -> None:
    files = snap(1, "abcd"), snap(2, "a"), snap(2, "", released=True)
    assert verdicts(*files) == [(1, True, 0, 0), (2, True, 3, 4)]
    assert deletes(*files, guard=HALF) == [(2, "b"), (2, "c"), (2, "d")]


# --- the guard --------------------------------------------------------------------------------------------------------


def test_a_file_that_lacks_more_than_the_guard_is_held_and_deletes_nothing() -> None:
    files = snap(1, "abcd"), snap(2, "a")
    assert verdicts(*files) == [(1, True, 0, 0), (2, False, 3, 4)]
    assert deletes(*files, guard=HALF) == []


def test_a_file_that_lacks_just_the_guard_stands() -> None:
    assert verdicts(snap(1, "abcd"), snap(2, "ab")) == [(1, True, 0, 0), (2, True, 2, 4)]
    assert verdicts(snap(1, "abcdefghij"), snap(2, "abcdefg"), guard=Decimal("0.3"))[1] == (2, True, 3, 10)


def test_keys_that_are_new_do_not_make_up_for_those_that_are_missing() -> None:
    assert verdicts(snap(1, "abcd"), snap(2, "aefghijk"))[1] == (2, False, 3, 4)


def test_a_guard_of_nothing_holds_every_delete_and_no_guard_none() -> None:
    assert [v[1] for v in verdicts(snap(1, "abcd"), snap(2, "abc"), guard=Decimal(0))] == [True, False]
    assert [v[1] for v in verdicts(snap(1, "abcd"), snap(2, ""), guard=None)] == [True, True]


def test_the_first_complete_file_stands() -> None:
    assert verdicts(snap(1, "abc", complete=False), snap(2, ""), guard=Decimal(0)) == [(2, True, 0, 0)]


def test_a_file_is_judged_against_the_complete_one_before_it() -> None:
    files = snap(1, "abcd"), snap(2, "", complete=False), snap(3, "abc"), snap(4, "a")
    assert verdicts(*files) == [(1, True, 0, 0), (3, True, 1, 4), (4, False, 2, 3)]


def test_a_file_is_judged_against_the_last_one_that_stands() -> None:
    files = snap(1, "abcd"), snap(2, "a"), snap(3, "a"), snap(4, "abc")
    assert verdicts(*files) == [(1, True, 0, 0), (2, False, 3, 4), (3, False, 3, 4), (4, True, 1, 4)]


def test_the_keys_of_a_file_that_is_held_are_the_feeds() -> None:
    files = snap(1, "abcd"), snap(2, "ax"), snap(3, "abcd")
    assert verdicts(*files)[1] == (2, False, 3, 4)
    assert deletes(*files, guard=HALF) == [(3, "x")]


def test_a_file_that_lands_in_between_has_later_ones_judged_again() -> None:
    before, after, between = snap(1, "abcd"), snap(3, "a"), snap(2, "ab")
    assert deletes(before, after, guard=HALF) == []
    assert verdicts(before, after, between) == [(1, True, 0, 0), (2, True, 2, 4), (3, True, 1, 2)]
    assert deletes(before, after, between, guard=HALF) == [(2, "c"), (2, "d"), (3, "b"), (3, "c"), (3, "d")]


def test_a_released_file_stands_and_the_next_is_judged_against_it() -> None:
    files = snap(1, "abcd"), snap(2, "a", released=True), snap(3, "a")
    assert verdicts(*files) == [(1, True, 0, 0), (2, True, 3, 4), (3, True, 0, 1)]


def test_no_release_makes_an_incomplete_file_delete() -> None:
    assert deletes(snap(1, "ab"), snap(2, "a", complete=False, released=True), guard=HALF) == []


# --- truncates --------------------------------------------------------------------------------------------------------


def test_a_truncate_is_not_judged_and_deletes_all() -> None:
    files = snap(1, "ab"), truncate(2)
    assert verdicts(*files, guard=Decimal(0)) == [(1, True, 0, 0), (2, True, 2, 2)]
    assert deletes(*files, guard=Decimal(0)) == [(2, "a"), (2, "b")]


def test_what_follows_a_truncate_is_judged_against_nothing() -> None:
    files = snap(1, "abcd"), truncate(2), snap(3, "a")
    assert verdicts(*files, guard=Decimal(0)) == [(1, True, 0, 0), (2, True, 4, 4), (3, True, 0, 0)]
    assert deletes(*files, guard=Decimal(0)) == [(2, key) for key in "abcd"] + [(3, key) for key in "bcd"]


def test_a_truncate_is_a_set_of_its_own_before_the_files_of_its_instant() -> None:
    files = snap(1, "abcd"), snap(2, "a"), truncate(2), truncate(2)
    assert verdicts(*files) == [(1, True, 0, 0), (2, True, 4, 4), (2, True, 0, 0)]
    assert deletes(*files, guard=HALF) == [(2, key) for key in "abcd"]
    assert deletes(snap(1, "ab"), snap(2, "a", complete=False), truncate(2)) == [(2, "a"), (2, "b")]


def test_what_a_file_has_at_the_instant_of_a_truncate_goes_on_without_a_gap() -> None:
    files = snap(1, "ab"), truncate(2), snap(2, "a")
    rows = [(1, "a"), (1, "b"), (2, "a")]
    events = [Event((key,), at(when), "upsert", {"city": "Rome"}, (Decimal(1),)) for when, key in rows]
    truth = fold(Entity(("id",), ("city",)), [*events, *implied_deletes(files, None)])
    assert [(row["id"], row["valid_from"], row["valid_to"]) for row in truth.history] == [
        ("a", at(1), None),
        ("b", at(1), at(2)),
    ]


@pytest.mark.parametrize("wrong", [{"present": frozenset({("a",)})}, {"complete": False}])
def test_a_truncate_is_empty_and_complete(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the truncate at 1970-01-01 00:00:02 has keys or is not complete"):
        replace(truncate(2), **wrong)


# --- any order --------------------------------------------------------------------------------------------------------

FILES = st.lists(
    st.builds(
        snap,
        st.integers(1, 5),
        st.text("abcd", max_size=4),
        complete=st.sampled_from([True, True, False]),
        released=st.sampled_from([False, False, True]),
    )
    | st.builds(truncate, st.integers(1, 5)),
    max_size=8,
)
GUARDS = st.sampled_from([None, Decimal(0), Decimal("0.3"), HALF])


@settings(max_examples=200, deadline=None)
@given(FILES, st.randoms(use_true_random=False), GUARDS)
def test_order_and_duplication_never_change_the_deletes(files: list[Snapshot], random: Any, guard: Any) -> None:
    again = [*files, *random.choices(files, k=len(files) // 2)] if files else []
    random.shuffle(again)
    assert implied_deletes(again, guard) == implied_deletes(files, guard)
    assert judged(again, guard) == judged(files, guard)


@settings(max_examples=200, deadline=None)
@given(FILES, GUARDS)
def test_what_is_deleted_was_there_before_and_is_not_there_now(files: list[Snapshot], guard: Any) -> None:
    events = implied_deletes(files, guard)
    assert len({(event.key, event.event_time) for event in events}) == len(events)
    standing = {verdict.instant for verdict in judged(files, guard) if verdict.standing}
    emptied = {file.instant for file in files if file.truncate}
    for event in events:
        assert event.event_time in standing
        before = event.event_time if event.event_time in emptied else event.event_time - timedelta(microseconds=1)
        assert any(event.key in file.present for file in files if file.instant <= before)
        if event.event_time not in emptied:
            assert not any(event.key in file.present for file in files if file.instant == event.event_time)
