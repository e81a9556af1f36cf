"""What a feed declares under `expect` is a check of its staging table: of the objects that are new, or that block."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from c360_assets import checks, expectations, pending, quarantine, registers
from c360_assets.entities import declared
from c360_assets.persons import hidden_columns
from tests.parts import Platform

HEADER = "customer_id,city,email,signup_date,updated_at\n"
FEED = dg.AssetKey(["staging", "customers"])
BLOCKS = [
    {"column": "email", "null_share": 0.2, "severity": "block"},
    {"column": "city", "one_of": ["Rome", "Oslo"]},
    {"column": "phone", "at_least": 100, "severity": "block"},
    {"column": "customer_id", "distinct": 30},
    {"volume": "learned", "severity": "block"},
]


def rows_of(count: int, *, first: int = 0, city: str = "Rome", email: str = "a@b.example", phone: str = "") -> bytes:
    header = HEADER.replace("email", "email,phone")
    return (header + "".join(f"c{first + n},{city},{email},{phone},,2024-01-01\n" for n in range(count))).encode()


@pytest.fixture
def expecting(platform: Platform) -> Platform:
    """A platform whose customer feed declares what is expected of it."""
    feed = platform.feeds["customers"]
    declared = expectations.take_expectations("here", BLOCKS, feed.columns, False)
    platform.feeds["customers"] = replace(feed, expect=declared, nulls=("NULL",))
    with platform.warehouse.writing("test") as session:
        registers.prepare_tables(session, list(platform.feeds.values()))
        pending.prepare_marks(session)
    return platform


class Run:
    """Staging loaded, its checks run, and something that is made of it."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance) -> None:
        feed = platform.feeds["customers"]
        made: list[str] = []

        @dg.asset(key=list(FEED.path))
        def staged() -> None:
            platform.load()

        @dg.asset(deps=[FEED])
        def after() -> None:
            made.append("after")

        result = dg.materialize(
            [staged, after, checks.staging_checks(feed, platform.warehouse)], instance=instance, raise_on_error=False
        )
        self.is_made = bool(made)
        self.evaluated: dict[str, dg.AssetCheckEvaluation] = {
            e.check_name: e for e in result.get_asset_check_evaluations()
        }

    @property
    def failing(self) -> dict[str, Any]:
        return {
            name: e.metadata.get("failing", next(iter(e.metadata.values()))).value
            for name, e in self.evaluated.items()
            if not e.passed and name != "columns_as_declared"
        }


def held_up(platform: Platform) -> list[str]:
    """As a lap of the worker asks it."""
    with platform.warehouse.writing("test") as session:
        return checks.held_up(session, [platform.feeds["customers"]])


def built(platform: Platform) -> None:
    """A whole build has taken what there is."""
    with platform.warehouse.writing("test") as session:
        pending.note_built(session, "project", pending.newest_batches(session))


def test_what_is_as_expected_passes(expecting: Platform, instance: dg.DagsterInstance) -> None:
    expecting.put("a.csv", rows_of(40, phone="100"))
    run = Run(expecting, instance)
    assert run.failing == {} and run.is_made
    assert {"null_share_email", "one_of_city", "at_least_phone", "distinct_customer_id", "volume"} <= set(run.evaluated)


def test_a_warning_names_object_rows_and_value_and_holds_nothing_up(
    expecting: Platform, instance: dg.DagsterInstance
) -> None:
    expecting.put("a.csv", rows_of(3, city="Rom", phone="555") + rows_of(22, first=3)[len(HEADER) + 6 :])
    run = Run(expecting, instance)
    assert run.is_made
    assert run.failing == {
        "one_of_city": ["stream_data/customers/a.csv: 3 of 25 rows, for example 'Rom'"],
        "distinct_customer_id": ["25 different customer_id, of at least 30"],
    }
    assert run.evaluated["one_of_city"].severity == dg.AssetCheckSeverity.WARN
    assert held_up(expecting) == []


def test_what_blocks_holds_up_what_is_made_of_it_and_says_what_ends_it(
    expecting: Platform, instance: dg.DagsterInstance
) -> None:
    expecting.put("a.csv", rows_of(40, email=""))
    run = Run(expecting, instance)
    assert not run.is_made
    assert run.failing == {"null_share_email": ["stream_data/customers/a.csv: 40 of 40 rows have none"]}
    remedy = str(run.evaluated["null_share_email"].metadata["remedy"].value)
    assert "c360 quarantine release --feed" in remedy
    (told,) = held_up(expecting)
    assert told == f"customers: null_share_email: stream_data/customers/a.csv: 40 of 40 rows have none; {remedy}"


def test_the_next_object_does_not_cover_one_that_blocks(expecting: Platform, instance: dg.DagsterInstance) -> None:
    expecting.put("a.csv", rows_of(40, email="NULL"))
    assert not Run(expecting, instance).is_made
    expecting.put("b.csv", rows_of(40, first=40))
    run = Run(expecting, instance)
    assert not run.is_made and "customers/a.csv" in str(run.failing["null_share_email"])


def test_an_object_that_blocks_is_released_or_landed_corrected(
    expecting: Platform, instance: dg.DagsterInstance
) -> None:
    expecting.put("a.csv", rows_of(40, email=""))
    expecting.put("customer_20240101000000.csv", rows_of(40, first=40, phone="7"))
    assert set(Run(expecting, instance).failing) == {"null_share_email", "at_least_phone"}
    feed = expecting.feeds["customers"]
    assert quarantine.release_objects(expecting.warehouse, feed, "a.csv") == ["stream_data/customers/a.csv"]
    assert quarantine.release_objects(expecting.warehouse, feed, "a.csv") == []
    expecting.put("customer_20240101000000.csv", rows_of(40, first=40, phone="700"))
    run = Run(expecting, instance)
    assert run.failing == {} and run.is_made


def test_what_a_whole_build_has_taken_is_not_judged_again(expecting: Platform, instance: dg.DagsterInstance) -> None:
    expecting.put("a.csv", rows_of(40, email=""))
    assert not Run(expecting, instance).is_made
    built(expecting)
    assert not Run(expecting, instance).is_made, "the newest batch is judged, whatever has come of it"
    expecting.put("b.csv", rows_of(40, first=40))
    assert Run(expecting, instance).is_made


def test_a_share_of_few_rows_says_nothing(expecting: Platform, instance: dg.DagsterInstance) -> None:
    expecting.put("a.csv", rows_of(19, email=""))
    assert Run(expecting, instance).is_made


def test_a_file_much_smaller_than_those_before_it_blocks(expecting: Platform, instance: dg.DagsterInstance) -> None:
    for n in range(8):
        expecting.put(f"{n}.csv", rows_of(40, first=n * 40))
    assert Run(expecting, instance).is_made
    expecting.put("cut.csv", rows_of(4))
    run = Run(expecting, instance)
    assert not run.is_made
    assert run.failing == {"volume": ["stream_data/customers/cut.csv: 4 rows, where 20 to 81 were to be expected"]}


def test_a_record_that_people_landed_corrected_says_nothing_of_what_the_source_sends(
    expecting: Platform, instance: dg.DagsterInstance
) -> None:
    expecting.put("a.fixed-abcdef-3.csv", b"customer_id,_fixed_row\nc1,3\n")
    assert Run(expecting, instance).evaluated["columns_as_declared"].passed
    for n in range(8):
        expecting.put(f"{n}.csv", rows_of(40, first=n * 40))
    expecting.put("0.fixed-abcdef-4.csv", b"customer_id,_fixed_row\nc1,4\n")
    assert Run(expecting, instance).evaluated["volume"].passed


def test_of_a_personal_column_and_of_unknown_ones_no_value_is_told(
    expecting: Platform, instance: dg.DagsterInstance
) -> None:
    """What a check says stays in Dagster's storage, long after the person is forgotten."""
    hidden = hidden_columns(declared(expecting.project), expecting.feeds)
    assert {"email", "phone", "street", "first_name", "last_name", "raw", "payload"} <= hidden and "city" not in hidden
    text = rows_of(1, phone="7").decode().splitlines()
    expecting.put("a.csv", "\n".join([f"{text[0]},nickname", f"{text[1]},Zoe the Unmistakable", ""]).encode())
    expecting.load()
    told, open_told = _told(expecting, hidden), _told(expecting, ())
    assert "'7'" in open_told and "'7'" not in told and "1 of 1 rows" in told
    assert "nickname" in told and "Unmistakable" not in told + open_told


def _told(platform: Platform, columns: Collection[str]) -> str:
    """Everything that the checks of the feed say."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [dg.AssetSpec(FEED), checks.staging_checks(platform.feeds["customers"], platform.warehouse, columns)],
            instance=instance, raise_on_error=False, selection=dg.AssetSelection.all_asset_checks(),
        )  # fmt: skip
        return " ".join(str(dict(e.metadata)) for e in result.get_asset_check_evaluations())
