"""Landing: the plan of a batch, a pure function of what is listed and what is known."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from c360_assets.landing import Listed, batch_name, plan_batch

KEYS = st.sampled_from([f"stream_data/customers/{n}.csv" for n in "abcdefgh"])
ETAGS = st.sampled_from(["e1", "e2", "e3"])
OBJECTS = st.builds(
    Listed,
    last_modified=st.integers(0, 3).map(lambda second: datetime(2024, 1, 1) + timedelta(seconds=second)),
    key=KEYS,
    etag=ETAGS,
    size=st.integers(0, 100),
)
LISTINGS = st.lists(OBJECTS, unique_by=lambda o: o.key)
LEDGERS = st.dictionaries(KEYS, ETAGS)
COUNTS = st.integers(1, 5)
SIZES = st.integers(1, 200)


def new(listed: list[Listed], known: dict[str, str]) -> list[Listed]:
    return [o for o in listed if known.get(o.key) != o.etag]


@given(LISTINGS, LEDGERS, COUNTS, SIZES)
def test_a_plan_holds_only_what_is_new(listed: list[Listed], known: dict[str, str], count: int, size: int) -> None:
    plan = plan_batch(listed, known, count, size)
    assert set(plan) <= set(new(listed, known))
    assert len(set(plan)) == len(plan)


@given(LISTINGS, LEDGERS, COUNTS, SIZES)
def test_a_plan_keeps_within_its_bounds_and_holds_at_least_one_object(
    listed: list[Listed], known: dict[str, str], count: int, size: int
) -> None:
    plan = plan_batch(listed, known, count, size)
    assert bool(plan) == bool(new(listed, known))
    assert len(plan) <= count
    assert len(plan) == 1 or sum(o.size for o in plan) <= size


@given(LISTINGS, LEDGERS, COUNTS, SIZES)
def test_a_plan_is_no_smaller_than_it_has_to_be(
    listed: list[Listed], known: dict[str, str], count: int, size: int
) -> None:
    plan = plan_batch(listed, known, count, size)
    left = sorted(set(new(listed, known)) - set(plan))
    assert not left or len(plan) == count or sum(o.size for o in plan) + left[0].size > size


@given(LISTINGS, LEDGERS, COUNTS, SIZES, st.data())
def test_a_plan_does_not_depend_on_the_order_of_listing(
    listed: list[Listed], known: dict[str, str], count: int, size: int, data: st.DataObject
) -> None:
    other = data.draw(st.permutations(listed))
    assert plan_batch(other, known, count, size) == plan_batch(iter(listed), known, count, size)


@given(LISTINGS, LEDGERS, COUNTS, SIZES)
def test_the_oldest_come_first_and_plan_after_plan_takes_all_of_them_once(
    listed: list[Listed], known: dict[str, str], count: int, size: int
) -> None:
    taken: list[Listed] = []
    ledger = dict(known)
    for _ in listed:
        plan = plan_batch(listed, ledger, count, size)
        taken += plan
        ledger |= {o.key: o.etag for o in plan}
    assert taken == sorted(new(listed, known), key=lambda o: (o.last_modified, o.key))


def test_an_object_larger_than_a_batch_is_a_batch_of_its_own() -> None:
    at = datetime(2024, 1, 1)
    small, large = Listed(at, "a", "1", 10), Listed(at, "b", "1", 1_000)
    assert plan_batch([large, small], {}, 500, 100) == [small]
    assert plan_batch([large, small], {"a": "1"}, 500, 100) == [large]


@given(LISTINGS.filter(bool), st.data())
def test_a_batch_is_called_the_same_for_the_same_objects_and_contents_only(
    listed: list[Listed], data: st.DataObject
) -> None:
    name = batch_name(listed)
    touched = [Listed(o.last_modified + timedelta(hours=1), o.key, o.etag, o.size) for o in listed]
    assert batch_name(touched) == name
    place = data.draw(st.integers(0, len(listed) - 1))
    o = listed[place]
    changed = [*listed[:place], Listed(o.last_modified, o.key, f"{o.etag}x", o.size), *listed[place + 1 :]]
    assert batch_name(changed) != name
    assert batch_name(listed[:-1]) != name
