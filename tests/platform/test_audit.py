"""Audit of others' histories: every fault is found with its cause and nothing else; dbt's own faults are named.

Day 1 is 2024-01-01. A history is written as rows (key, city, start, end), a log as events (key, city or None for a
delete, day).
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from c360_assets.audit import Audit, AuditError, audit, run, understood, understood_log, write
from c360_assets.audit_causes import CAUSES, CODES
from c360_assets.settings import Settings
from c360_assets.warehouse import Warehouse, open_warehouse
from generator.truth import CUSTOMERS, Event, Truth, fold
from tests.engine.streams import random_events
from tests.parts import ON_SNOWFLAKE, on_duckdb

Version = tuple[str | None, str | None, Any, Any]
Change = tuple[str | None, str | None, Any]


def day(number: float | datetime | None) -> datetime | None:
    if number is None or isinstance(number, datetime):
        return number
    return datetime(2024, 1, 1) + timedelta(days=number - 1)


class House:
    """A warehouse with one history and one log, made by whomever."""

    def __init__(self, settings: Settings) -> None:
        self.warehouse: Warehouse = open_warehouse(settings)
        self.do("create schema if not exists dim")

    def do(self, *statements: str) -> None:
        with self.warehouse.writing("test") as session:
            for statement in statements:
                session.execute(statement)

    def table(self, name: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
        with self.warehouse.writing("test") as session:
            session.execute(f"create or replace table {name} ({columns})")
            for start in range(0, len(rows), 500):
                part = rows[start : start + 500]
                places = ", ".join(f"({', '.join('?' * len(row))})" for row in part)
                session.execute(f"insert into {name} values {places}", [value for row in part for value in row])

    def history(self, *versions: Version) -> None:
        self.table(
            "dim.customer",
            "customer_id varchar, city varchar, valid_from timestamp, valid_to timestamp",
            [(key, city, day(start), day(end)) for key, city, start, end in versions],
        )

    def log(self, *changes: Change) -> None:
        self.table(
            "dim.changes",
            "customer_id varchar, city varchar, event_time timestamp, op varchar",
            [(key, city, day(at), "U" if city else "D") for key, city, at in changes],
        )

    def audit(self, log: bool = True, **told: Any) -> Audit:
        options = {"history": "dim.customer", "key": "customer_id", "log": "dim.changes" if log else None, **told}
        with self.warehouse.reading() as session:
            return as_written(run(session, options))


def as_written(found: Audit) -> Audit:
    """Snowflake keeps a name that is not quoted in capitals, and an audit shows it so."""
    if not ON_SNOWFLAKE:
        return found
    names = tuple(name.lower() if name.isupper() else name for name in found.history.attributes)
    faults, notes = (
        [replace(fault, cause=fault.cause.replace("CITY", "city")) for fault in some]
        for some in (found.faults, found.notes)
    )
    return replace(found, history=replace(found.history, attributes=names), faults=faults, notes=notes)


@pytest.fixture
def house(settings: Settings) -> House:
    return House(settings)


def only(found: Audit, code: str) -> str:
    """The cause of the one fault there is."""
    assert found.counts == {code: 1}, [f.cause for f in (*found.faults, *found.notes)]
    (fault,) = (*found.faults, *found.notes)
    assert fault.code == code
    return fault.cause


# --- what is right has no faults


def sorted_position(position: tuple[Decimal, ...] | None) -> str | None:
    """As text that sorts as the numbers do."""
    if position is None:
        return None
    return ":".join(f"{int(part):038d}.{str(part % 1)[2:] or '0'}" for part in position)


def stream(seed: int, keys: int) -> list[Event]:
    chance = random.Random(seed)
    return [event for number in range(keys) for event in random_events(chance, f"k{number:04d}")]


HISTORY = ("customer_id", *CUSTOMERS.attributes, "valid_from", "valid_to", "is_current", "change_type", "ended_by")


def lay(house: House, events: list[Event], truth: Truth) -> None:
    """The oracle's history and the raw events, copies included, as tables."""
    states = ", ".join(f"{name} varchar" for name in CUSTOMERS.attributes)
    house.table(
        "dim.customer",
        f"customer_id varchar, {states}, valid_from timestamp, valid_to timestamp, is_current boolean, "
        "change_type varchar, ended_by varchar",
        [[row[name] for name in HISTORY] for row in truth.history],
    )
    house.table(
        "dim.changes",
        f"customer_id varchar, {states}, event_time timestamp, op varchar, position varchar",
        [
            (*e.key, *(e.values.get(n) for n in CUSTOMERS.attributes), e.event_time, e.op, sorted_position(e.position))
            for e in events
        ],
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_what_the_oracle_folds_has_no_faults(seed: int, house: House) -> None:
    events = stream(seed, 200)
    truth = fold(CUSTOMERS, events)
    assert len(truth.ties) > 20
    lay(house, events, truth)
    found = house.audit()
    assert (found.faults, found.notes, found.counts) == ([], [], {})
    assert found.is_right
    assert found.keys == len({row["customer_id"] for row in truth.history})
    assert (found.versions, found.events) == (len(truth.history), len(events))
    assert house.audit(log=False).counts.keys() == {"gap"}


def spoiled(chance: random.Random, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The history of one key with something about it wrong; now and then it comes out as it was."""
    rows = [dict(row) for row in rows]
    row = chance.choice(rows)
    other = datetime(2024, 1, 1) + timedelta(hours=chance.randrange(9), minutes=chance.choice((0, 7)))
    match chance.randrange(8):
        case 0:
            rows.remove(row)
        case 1:
            row["valid_from"] = other
        case 2:
            row["valid_to"] = other
        case 3:
            row["valid_to"] = None
        case 4:
            row["city"] = chance.choice(("Rome", "Oslo", "Paris", None))
        case 5:
            rows.append(dict(row))
        case 6:
            rows.append(row | {"valid_from": other, "city": chance.choice(("Rome", "Oslo", "Bonn"))})
        case _:
            rows.clear()
    for row in rows:
        row["is_current"] = row["valid_to"] is None
    return rows


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_faults_are_found_for_the_spoiled_keys_and_for_no_other(seed: int, house: House) -> None:
    chance = random.Random(seed)
    # Ties apart, which are notes: every event has a position of its own.
    events = [replace(e, position=(Decimal(n),)) for n, e in enumerate(stream(seed + 10, 300))]
    truth = fold(CUSTOMERS, events)
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in truth.history:
        by_key.setdefault(row["customer_id"], []).append(row)
    wrong: set[str] = set()
    there: list[dict[str, Any]] = []
    for key, rows in by_key.items():
        made = spoiled(chance, rows) if chance.random() < 0.4 else rows
        if sorted(map(str, made)) != sorted(map(str, rows)):
            wrong.add(key)
        there += made
    lay(house, events, replace(truth, history=there))
    found = house.audit(limit=1_000)
    assert {f.key[0] for f in found.faults} == wrong
    assert len(wrong) > 50
    assert len(found.counts) > 8
    assert found.notes == []


# --- every fault, alone

# A log, a history with one fault, and what its cause says. Rome@1 Oslo@3 is the log where none is told.
PLAIN: tuple[Change, ...] = (("1", "Rome", 1), ("1", "Oslo", 3))
FAULTS: dict[str, tuple[tuple[Change, ...], tuple[Version, ...], str]] = {
    "null_key": (PLAIN, (("1", "Rome", 1, 3), ("1", "Oslo", 3, None), (" ", "Bonn", 1, None)), "null or empty (city=Bonn)"),
    "null_start": (PLAIN, (("1", "Rome", 1, 3), ("1", "Oslo", 3, None), ("1", "Bonn", None, None)), "has no start"),
    "negative_version": (PLAIN, (("1", "Rome", 1, 3), ("1", "Oslo", 3, None), ("1", "Bonn", 5, 4)), "a late event"),
    "empty_version": (PLAIN, (("1", "Rome", 1, 3), ("1", "Oslo", 3, None), ("1", "Bonn", 3, 3)), "same instant"),
    "duplicate_version": (PLAIN, (("1", "Rome", 1, 3), ("1", "Rome", 1, 3), ("1", "Oslo", 3, None)), "is there 2 times"),
    "two_open_versions": (PLAIN, (("1", "Rome", 1, None), ("1", "Oslo", 3, None)), "2 open versions, from 2024-01-01T00:00:00Z (city=Rome) to 2024-01-03T00:00:00Z (city=Oslo)"),
    "overlap": (PLAIN, (("1", "Rome", 1, 4), ("1", "Oslo", 3, None)), "until 2024-01-04T00:00:00Z: it was closed by another change"),
    "touching_versions_equal": (PLAIN[:1], (("1", "Rome", 1, 3), ("1", "Rome", 3, None)), "an event that changed nothing opened it"),
    "unknown_key": (PLAIN, (("1", "Rome", 1, 3), ("1", "Oslo", 3, None), ("2", "Bonn", 1, 3)), "1 versions since 2024-01-01T00:00:00Z, and no event"),
    "missing_key": ((*PLAIN, ("2", "Rome", 1), ("2", None, 2), ("2", "Rome", 3)), (("1", "Rome", 1, 3), ("1", "Oslo", 3, None)), "implies 2 versions since 2024-01-01T00:00:00Z"),
    "lost_event": ((*PLAIN, ("1", "Bonn", 5)), (("1", "Rome", 1, 5), ("1", "Bonn", 5, None)), "the change at 2024-01-03T00:00:00Z (city: Rome→Oslo) is in no version: the history goes on with 2024-01-05T00:00:00Z: either it came late"),
    "wrong_start": (PLAIN, (("1", "Rome", 1, 900.5), ("1", "Oslo", 900.5, None)), "its change is of 2024-01-03T00:00:00Z: no event of the key is of that time: the time of a run"),
    "wrong_end": ((*PLAIN[:1], ("1", None, 3)), (("1", "Rome", 1, 3.5),), "ends at 2024-01-03T12:00:00Z, the delete is of 2024-01-03T00:00:00Z"),
    "wrong_values": (PLAIN, (("1", "Rome", 1, 3), ("1", "Bonn", 3, None)), "(city: Bonn→Oslo): no event of the key has these values"),
    "surplus_version": (PLAIN[:1], (("1", "Rome", 1, 3), ("1", "Oslo", 3, None)), "no event of the key is of that time, and none has these values"),
    "gap_without_delete": (PLAIN, (("1", "Rome", 1, 2), ("1", "Oslo", 3, None)), "1 day, 0:00:00 later: are ends written inclusively"),
    "delete_ignored": ((PLAIN[0], ("1", None, 2), PLAIN[1]), (("1", "Rome", 1, 3), ("1", "Oslo", 3, None)), "the delete at 2024-01-02T00:00:00Z ended nothing"),
    "deleted_key_still_open": ((*PLAIN, ("1", None, 5)), (("1", "Rome", 1, 3), ("1", "Oslo", 3, None)), "deleted at 2024-01-05T00:00:00Z, and no event after that"),
    "reinsert_gap_lost": ((PLAIN[0], ("1", None, 2), ("1", "Rome", 3)), (("1", "Rome", 1, None),), "inserted again with the same values at 2024-01-03T00:00:00Z"),
}  # fmt: skip


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_is_found_with_its_cause_and_nothing_else(code: str, house: House) -> None:
    changes, versions, cause = FAULTS[code]
    # A neighbour whose history is right must not be drawn in.
    house.log(*changes, ("9", "Rome", 1), ("9", None, 2), ("9", "Rome", 4))
    house.history(*versions, ("9", "Rome", 1, 2), ("9", "Rome", 4, None))
    found = house.audit()
    assert cause in only(found, code)
    assert not found.is_right


def test_every_code_has_a_cause_and_a_test_of_its_own() -> None:
    assert CODES.keys() == CAUSES.keys()
    assert CODES.keys() - FAULTS.keys() == {"current_flag_disagrees", "gap", "tie"}


STRUCTURE = (
    "null_key", "null_start", "negative_version", "empty_version", "duplicate_version", "two_open_versions", "overlap",
    "touching_versions_equal",
)  # fmt: skip


@pytest.mark.parametrize("code", STRUCTURE)
def test_faults_of_the_history_itself_are_found_without_a_log(code: str, house: House) -> None:
    house.history(*FAULTS[code][1])
    assert FAULTS[code][2] in only(house.audit(log=False), code)


@pytest.mark.parametrize(
    ("kind", "yes", "no"),
    [("boolean", True, False), ("varchar", "Y", "n"), ("integer", 1, 0), ("varchar", "current", "expired")],
)
def test_a_flag_that_the_end_denies_is_found(kind: str, yes: Any, no: Any, house: House) -> None:
    columns = f"id varchar, city varchar, start_date timestamp, end_date timestamp, current_flag {kind}"
    right = [("1", "Rome", day(1), day(3), no), ("1", "Oslo", day(3), None, yes), ("2", "Bonn", day(1), None, yes)]
    house.table("dim.customer", columns, right)
    assert house.audit(log=False, key="id").is_right
    house.table("dim.customer", columns, [*right[:2], (*right[2][:4], no)])
    assert "marked not current, but is open" in only(house.audit(log=False, key="id"), "current_flag_disagrees")
    house.table("dim.customer", columns, [(*right[0][:4], yes), *right[1:]])
    cause = only(house.audit(log=False, key="id"), "current_flag_disagrees")
    assert "marked current, but ended at 2024-01-03T00:00:00Z" in cause


def test_a_gap_is_a_note_without_a_log_and_judged_with_one(house: House) -> None:
    house.history(("1", "Rome", 1, 2), ("1", "Rome", 3, None))
    found = house.audit(log=False)
    assert "nothing holds from 2024-01-02T00:00:00Z until 2024-01-03T00:00:00Z" in only(found, "gap")
    assert found.is_right
    house.log(("1", "Rome", 1), ("1", None, 2), ("1", "Rome", 3))
    assert house.audit().counts == {}
    house.log(("1", "Rome", 1), ("1", "Rome", 3))
    assert house.audit().counts == {"gap_without_delete": 1, "surplus_version": 1}


def test_a_tie_that_the_log_leaves_open_is_no_fault(house: House) -> None:
    tied = (("1", "Rome", 1), ("1", "Oslo", 3), ("1", "Bonn", 3))
    house.log(*tied)
    causes = []
    for city in ("Oslo", "Bonn"):
        house.history(("1", "Rome", 1, 3), ("1", city, 3, None))
        found = house.audit()
        assert found.is_right
        causes += [note.cause for note in found.notes]
    assert len(causes) == 1, "one of the two is what the order of the contents gives"
    assert "a position would decide" in causes[0]
    house.history(("1", "Rome", 1, 3), ("1", "Paris", 3, None))
    assert house.audit().counts == {"wrong_values": 1}
    # A tie with the state that holds anyway: either way it is a version or none, and no fault.
    house.log(
        ("1", "Rome", 1), ("1", "Oslo", 3), ("1", "Rome", 3), ("2", "Oslo", 1), ("2", "Oslo", 3), ("2", "Rome", 3)
    )
    house.history(("1", "Rome", 1, None), ("2", "Oslo", 1, None))
    assert house.audit().counts == {"tie": 1}
    house.history(("1", "Rome", 1, 3), ("1", "Oslo", 3, None), ("2", "Oslo", 1, 3), ("2", "Rome", 3, None))
    assert house.audit().counts == {"tie": 1}


# --- causes that need a second look


def test_the_arrival_of_a_lost_change_tells_why_it_was_lost(house: House) -> None:
    columns = "customer_id varchar, city varchar, event_time timestamp, op varchar, known_at timestamp"
    goes_on = (("1", "Rome", 1, 5), ("1", "Bonn", 5, None))
    stops = (("1", "Rome", 1, 3), ("1", "Oslo", 3, None))
    for arrivals, versions, cause in (
        ((1, 6, 6), goes_on, "it came in one batch with the change at 2024-01-05T00:00:00Z, and only the last"),
        (
            (1, 9, 6),
            goes_on,
            "it came after the change at 2024-01-05T00:00:00Z had been applied: a late event was dropped",
        ),
        ((1, 6, 6), stops, "in one batch with the change before it, and only the first"),
        ((1, 9, 6), stops, "it came before the change that precedes it"),
        ((1, 6, 7), stops, "it came in its turn, alone, and was not taken"),
    ):
        events = [
            ("1", c, day(t), "U", day(a)) for c, t, a in zip(("Rome", "Oslo", "Bonn"), (1, 3, 5), arrivals, strict=True)
        ]
        house.table("dim.changes", columns, events)
        house.history(*versions)
        assert cause in only(house.audit(), "lost_event")


def test_a_history_that_was_not_run_since_is_told_so(house: House) -> None:
    house.log(*PLAIN)
    house.history(("1", "Rome", 1, None))
    assert "is still" not in (cause := only(house.audit(), "lost_event"))
    assert "the newest version of the whole history starts at 2024-01-01T00:00:00Z: it was not run since" in cause


@pytest.mark.parametrize(
    ("start", "cause"),
    [
        (datetime(1970, 1, 1), "since ever"),
        (datetime(2024, 1, 1), "the time of day was cut off"),
        (datetime(2024, 1, 1, 6, 30), "2:00:00 apart is a time zone"),
        (datetime(2024, 1, 9, 1, 1, 1), "the time of a run or load was taken"),
        (datetime(2023, 1, 9, 1, 1, 1), "no event of the key is of that time"),
        (datetime(2024, 1, 2), "the time of another event of the key"),
    ],
)
def test_a_wrong_start_says_where_the_time_may_come_from(start: datetime, cause: str, house: House) -> None:
    house.log(("1", "Rome", datetime(2024, 1, 1, 8, 30)), ("1", "Rome", datetime(2024, 1, 2)))
    house.history(("1", "Rome", start, None))
    assert cause in only(house.audit(), "wrong_start")


def test_wrong_values_say_whose_they_are(house: House) -> None:
    house.log(("1", "Rome", 1), ("1", "Oslo", 3), ("1", "Bonn", 5))
    house.history(("1", "Rome", 1, 3), ("1", "Bonn", 3, 5), ("1", "Bonn", 5, None))
    found = house.audit()
    assert found.counts == {"touching_versions_equal": 1, "wrong_values": 1}
    assert "of the change at 2024-01-05T00:00:00Z: the version was overwritten in place" in found.faults[1].cause
    house.history(("1", "Rome", 1, 3), ("1", "Oslo", 3, 5), ("1", "Rome", 5, None))
    assert "of the event at 2024-01-01T00:00:00Z: the older values were kept" in only(house.audit(), "wrong_values")


def test_positions_decide_an_instant_and_the_loser_is_told(house: House) -> None:
    columns = "customer_id varchar, city varchar, event_time timestamp, op varchar, lsn bigint"
    house.table(
        "dim.changes",
        columns,
        [("1", "Rome", day(1), "U", None), ("1", "Oslo", day(1), "U", 9), ("1", "Bonn", day(1), "U", 10)],
    )
    house.history(("1", "Bonn", 1, None))
    assert house.audit().is_right
    house.history(("1", "Oslo", 1, None))
    assert "of another event of that instant, which comes first in the order" in only(house.audit(), "wrong_values")


def test_versions_that_all_start_at_the_run_are_each_told_once(house: House) -> None:
    house.log(("1", "Rome", 1), ("1", "Oslo", 3), ("1", "Rome", 5))
    house.history(("1", "Rome", 900.1, 901.1), ("1", "Oslo", 901.1, 902.1), ("1", "Rome", 902.1, None))
    found = house.audit()
    assert found.counts == {"wrong_start": 3}
    assert {f.since for f in found.faults} == {day(1), day(3), day(5)}
    assert all("the time of a run" in f.cause for f in found.faults)


def test_a_version_opened_again_at_the_run_is_surplus(house: House) -> None:
    house.log(("1", "Rome", 1), ("1", "Oslo", 3))
    house.history(("1", "Rome", 1, 3), ("1", "Oslo", 3, 9.5), ("1", "Rome", 9.5, None))
    cause = only(house.audit(), "surplus_version")
    assert "its values are of the event at 2024-01-01T00:00:00Z, so it was opened at the time of a run" in cause


def test_a_delete_kept_as_a_version_asks_for_the_column_that_marks_it(house: House) -> None:
    house.table("dim.customer", "customer_id varchar, city varchar, valid_from timestamp, valid_to timestamp, gone varchar",
                [("1", "Rome", day(1), day(3), "N"), ("1", "Rome", day(3), day(5), "Y"), ("1", "Rome", day(5), None, "N")])  # fmt: skip
    house.log(("1", "Rome", 1), ("1", None, 3), ("1", "Rome", 5))
    assert house.audit(deleted="gone").is_right
    assert not house.audit().is_right


def test_counts_are_exact_and_rows_limited(house: House) -> None:
    house.history(*((str(n), "Rome", 3, 1) for n in range(50)), ("x", "Oslo", 1, 1))
    house.log(*((str(n), "Rome", 3) for n in range(50)), ("x", "Oslo", 1))
    found = house.audit(limit=7)
    assert found.counts == {"negative_version": 50, "empty_version": 1}
    assert [f.code for f in found.faults] == ["negative_version"] * 7 + ["empty_version"]
    with pytest.raises(AuditError, match="1 or more"):
        house.audit(limit=0)


# --- shapes and types


def test_dlt_and_its_far_future_are_understood(house: House) -> None:
    """dlt's columns; dlt is not installed, the table is made by hand. Case: Rome@1, then Oslo and Bonn in one load."""
    far = datetime(9999, 12, 31, tzinfo=UTC)
    house.table(
        "dim.customer",
        "_dlt_valid_from timestamptz, _dlt_valid_to timestamptz, customer_id bigint, city varchar, _dlt_id varchar, _dlt_load_id varchar",
        [(day(1), day(3), 1, "Rome", "a", "1"), (day(3), far, 1, "Oslo", "b", "2"), (day(3), far, 1, "Bonn", "c", "2")],
    )
    found = house.audit(log=False)
    assert "2 open versions" in only(found, "two_open_versions")
    assert found.history.shape == "dlt"
    assert found.history.attributes == ("city",)
    assert found.history.open_end is not None
    # And what dlt makes of a late event: the last to come is current.
    house.table(
        "dim.customer",
        "_dlt_valid_from timestamptz, _dlt_valid_to timestamptz, customer_id bigint, city varchar, _dlt_id varchar, _dlt_load_id varchar",
        [
            (day(900), day(901), 1, "Rome", "a", "1"),
            (day(901), day(902), 1, "Bonn", "b", "2"),
            (day(902), None, 1, "Oslo", "c", "3"),
        ],
    )
    house.log(("1", "Rome", 1), ("1", "Oslo", 3), ("1", "Bonn", 5))
    found = house.audit()
    assert found.counts == {"wrong_start": 3, "wrong_end": 1}
    assert "was made the current one" in found.faults[-1].cause


def test_sqlmesh_is_understood(house: House) -> None:
    """SQLMesh's columns, by hand: Bonn lost of a batch, Oslo lost when late, a no-op kept, a gap lost."""
    columns = "customer_id varchar, city varchar, updated_at timestamp, valid_from timestamp, valid_to timestamp"
    batch = (("1", "Rome", 1), ("1", "Oslo", 3), ("1", "Bonn", 5))
    for log, versions, code in (
        (batch, [("Rome", 1, 3), ("Oslo", 3, None)], "lost_event"),
        (batch, [("Rome", 1, 5), ("Bonn", 5, None)], "lost_event"),
        ((("1", "Rome", 1), ("1", "Rome", 3)), [("Rome", 1, 3), ("Rome", 3, None)], "touching_versions_equal"),
        (
            (("1", "Rome", 1), ("1", None, 3), ("1", "Rome", 5)),
            [("Rome", 1, 5), ("Rome", 5, None)],
            "reinsert_gap_lost",
        ),
    ):
        house.log(*log)
        house.table("dim.customer", columns, [("1", c, day(s), day(s), day(e)) for c, s, e in versions])
        found = house.audit()
        only(found, code)
        assert found.history.shape == "SQLMesh, or by hand"
        assert found.history.attributes == ("city",), "updated_at says what valid_from says"


@pytest.mark.parametrize(
    ("start", "end"),
    [("effective_from", "effective_to"), ("Start_Date", "End_Date"), ("__START_AT", "__END_AT")],
)
def test_names_made_by_hand_are_understood(start: str, end: str, house: House) -> None:
    house.table("dim.customer", f'customer_id varchar, "City" varchar, "{start}" date, "{end}" date, load_date date', [
        ("1", "Rome", day(1), day(3), day(9)), ("1", "Oslo", day(3), datetime(2999, 12, 31), day(9))])  # fmt: skip
    house.log(*PLAIN)
    found = house.audit()
    assert found.is_right
    assert (found.history.valid_from, found.history.valid_to, found.history.attributes) == (start, end, ("City",))
    assert any("load_date" in remark.lower() for remark in found.remarks)


def test_ends_that_belong_to_the_version_are_told_by_an_option(house: House) -> None:
    house.table("dim.customer", "customer_id varchar, city varchar, start_date date, end_date date",
                [("1", "Rome", day(1), day(2)), ("1", "Oslo", day(3), None)])  # fmt: skip
    house.log(*PLAIN)
    assert house.audit().counts == {"gap_without_delete": 1}
    assert house.audit(end_inclusive="day").is_right


@on_duckdb
def test_text_zones_and_nanoseconds_are_one_instant(house: House) -> None:
    house.log(*PLAIN)
    for kind, rows in (
        ("varchar", [("2024-01-01", "2024-01-03T02:00:00+02:00"), ("2024-01-03 00:00:00", " ")]),
        ("timestamptz", [("2024-01-01T05:00:00+05:00", "2024-01-03"), ("2024-01-02T22:00:00-02:00", None)]),
        ("timestamp_ns", [("2024-01-01 00:00:00.000000999", "2024-01-03"), ("2024-01-03", None)]),
    ):
        columns = f"customer_id int, city varchar, valid_from {kind}, valid_to {kind}"
        house.table("dim.customer", columns, [(1, c, *row) for c, row in zip(("Rome", "Oslo"), rows, strict=True)])
        assert house.audit().counts == {}, kind


def test_columns_of_other_types_are_compared_and_told(house: House) -> None:
    house.table("dim.customer", "customer_id int, limit_ decimal(10, 2), since date, valid_from timestamp, valid_to timestamp",
                [(1, Decimal("1.50"), day(1), day(1), None)])  # fmt: skip
    house.table("dim.changes", "customer_id varchar, limit_ double, since varchar, updated_at varchar",
                [(" 1 ", 1.5, "2024-01-01", "2024-01-01T00:00:00Z")])  # fmt: skip
    found = house.audit()
    assert found.is_right
    assert any("since is compared as text" in remark.lower() for remark in found.remarks)


def told(house: House, **options: Any) -> str:
    with pytest.raises(AuditError) as error:
        house.audit(**options)
    return str(error.value).lower() if ON_SNOWFLAKE else str(error.value)


def test_what_is_not_clear_is_an_error_that_names_what_is_there_and_the_option(house: House) -> None:
    house.history(("1", "Rome", 1, None))
    house.log(*PLAIN)
    assert "give --key; there are: customer_id, city, valid_from, valid_to" in told(house, key="")
    assert "no column 'customer' (--key); there are: customer_id" in told(house, key="customer")
    assert "there is no table 'dim.nope'" in told(house, history="dim.nope")
    assert "no column 'nope' (--op)" in told(house, op="nope")
    assert "no column 'nope' (--valid-from)" in told(house, valid_from="nope")
    assert "is no unit; there are: day" in told(house, end_inclusive="week")
    assert "--open-end 'never' is no time" in told(house, open_end="never")
    house.table(
        "dim.customer",
        "customer_id int, city varchar, valid_from date, valid_to date, start_date date, end_date date",
        [],
    )
    assert "start_date and end_date or valid_from and valid_to: give --valid-from and --valid-to" in told(house)
    assert house.audit(valid_from="valid_from", valid_to="valid_to").is_right is False
    house.table("dim.customer", "customer_id int, city varchar, a date, b date", [])
    assert "no start and end of versions by any known name: give --valid-from and --valid-to" in told(house)
    house.table(
        "dim.customer",
        "customer_id int, city varchar, valid_from varchar, valid_to bigint",
        [(1, "Rome", "13/40/2020", 1)],
    )
    kind = "number" if ON_SNOWFLAKE else "bigint"
    assert f"valid_to of 'dim.customer' is of type {kind}, which is no time" in told(house)
    house.table(
        "dim.customer",
        "customer_id int, city varchar, valid_from varchar, valid_to date",
        [(1, "Rome", "13/40/2020", None)],
    )
    assert "valid_from of 'dim.customer' holds '13/40/2020', which reads as no time" in told(house)
    house.table(
        "dim.customer",
        "customer_id int, city varchar, valid_from date, valid_to date, is_current varchar",
        [(1, "Rome", day(1), None, "maybe")],
    )
    assert "is_current of 'dim.customer' holds 'maybe', which is neither yes" in told(house)
    house.table("dim.changes", "customer_id int, city varchar, at_ date", [])
    house.history(("1", "Rome", 1, None))
    assert "give --event-time; there are: customer_id, city, at_" in told(house)
    house.table("dim.changes", "customer_id int, town varchar, event_time date", [])
    assert "no column is left to compare" in told(house)


def test_options_win_over_names(house: House) -> None:
    house.table("dim.customer", "a varchar, b varchar, note varchar, city varchar, begins date, ends date, valid_from date, valid_to date",
                [("1", "x", "n1", "Rome", day(1), day(3), day(7), None), ("1", "x", "n2", "Oslo", day(3), day(40), day(7), None)])  # fmt: skip
    house.table("dim.changes", "x varchar, y varchar, city varchar, at_ date, what varchar, nr int",
                [("1", "x", "Rome", day(1), "new", 1), ("1", "x", "Bonn", day(3), "new", 1), ("1", "x", "Oslo", day(3), "new", 2), ("1", "x", None, day(40), "gone", 1)])  # fmt: skip
    options = {
        "key": ["a", "b"], "valid_from": "begins", "valid_to": "ends", "ignore": "valid_from,valid_to,note", "log_key": "x,y",
        "event_time": "at_", "op": "what", "delete_codes": "GONE", "position": "nr",
    }  # fmt: skip
    assert house.audit(**options).is_right
    # With the end told as open, the delete is the one thing that is missing.
    found = house.audit(**options, open_end="2024-02-01")
    assert only(found, "deleted_key_still_open")
    assert found.faults[0].key == ("1", "x")


@on_duckdb
def test_snowflake_gives_the_same_faults_in_the_same_words(
    house: House,
    on_snowflake: Settings,
) -> None:
    """On fakesnow: the form of the SQL, not Snowflake's arithmetic."""
    snow = House(on_snowflake)
    for each in (house, snow):
        changes: list[Change] = []
        versions: list[Version] = []
        for number, (log, history, _) in enumerate(FAULTS.values()):
            changes += [(key and key + f"/{number}", city, at) for key, city, at in log]
            versions += [(key.strip() and key + f"/{number}", *rest) for key, *rest in history if key]  # type: ignore[misc]
        # A tie, which hashes decide.
        each.log(*changes, ("tie", "Rome", 1), ("tie", "Oslo", 3), ("tie", "Bonn", 3))
        each.history(*versions, ("tie", "Rome", 1, 3), ("tie", "Oslo", 3, None))
    found, on_snow = house.audit(), snow.audit()
    assert {c for c, n in found.counts.items() if n == 1} >= FAULTS.keys() - {"unknown_key"}
    assert on_snow.counts == found.counts
    assert [f.cause.replace("CITY", "city") for f in on_snow.faults] == [f.cause for f in found.faults]
    assert [f.since for f in on_snow.faults] == [f.since for f in found.faults]
    assert len(on_snow.notes) == len(found.notes)
    assert snow.audit(log=False).counts == house.audit(log=False).counts


@on_duckdb
def test_snowflake_types_become_the_same_instants(on_snowflake: Settings) -> None:
    snow = House(on_snowflake)
    snow.log(*PLAIN)
    snow.do("create table dim.customer (customer_id number, city varchar, valid_from timestamp_tz, valid_to varchar, is_current boolean)",
            "insert into dim.customer values (1, 'Rome', '2024-01-01T05:00:00+05:00', '2024-01-03T02:00:00+02:00', false), "
            "(1, 'Oslo', '2024-01-02T22:00:00-02:00', '9999-12-31', true)")  # fmt: skip
    found = snow.audit()
    assert found.counts == {}
    assert found.history.attributes == ("CITY",)


# --- how it is shown


def test_an_audit_is_shown_as_table_json_and_csv(house: House) -> None:
    house.log(*PLAIN)
    house.history(("1", "Rome", 1, None), ("2", "Rome", 1, 2), ("2", "Rome", 3, None))
    with house.warehouse.reading() as session:
        history = understood(session, "dim.customer", key=("customer_id",))
        log = understood_log(session, "dim.changes", history)
        found = audit(session, history, log)

    def shown(form: str) -> str:
        out = io.StringIO()
        write(found, form, out)
        return out.getvalue()

    whole = json.loads(shown("json"))
    assert whole["counts"] == {"unknown_key": 1, "lost_event": 1}
    assert whole["checked"] == {"keys": 2, "versions": 3, "events": 2}
    assert whole["is_right"] is False
    assert whole["faults"][1]["key"] == ["1"]
    assert whole["faults"][1]["since"] == "2024-01-03T00:00:00Z"
    header, *rows = shown("csv").splitlines()
    assert header == "code,key,since,until,cause"
    assert [row.split(",")[0] for row in rows] == ["unknown_key", "lost_event"]
    table = shown("table")
    assert "3 versions of 2 keys in dim.customer, against 2 rows of dim.changes: what is wrong:" in table
    assert "lost_event" in table
    house.history(("1", "Rome", 1, 3), ("1", "Oslo", 3, None))
    out = io.StringIO()
    write(house.audit(), "table", out)
    assert out.getvalue().endswith("against 2 rows of dim.changes: nothing is wrong\n")


# --- dbt snapshots, made by dbt

Snapshot = Callable[..., None]


@pytest.fixture
def snapshot(house: House, settings: Settings, tmp_path: Path) -> Iterator[Snapshot]:
    """Runs `dbt snapshot` once per batch of (key, city, day) into dim.customer, as a project of somebody else's."""
    if ON_SNOWFLAKE:
        pytest.skip("is about what dbt makes on DuckDB")
    project = tmp_path / "other"
    (project / "snapshots").mkdir(parents=True)
    (project / "dbt_project.yml").write_text(
        "name: other\nversion: '1.0'\nprofile: other\nflags: {send_anonymous_usage_stats: false}\n"
    )
    (project / "profiles.yml").write_text(
        f"other: {{target: d, outputs: {{d: {{type: duckdb, path: '{settings.duckdb_path}', threads: 1}}}}}}\n"
    )

    def snapshot(strategy: str, *batches: Sequence[tuple[str, str, int]]) -> None:
        (project / "snapshots" / "customer.sql").write_text(
            "{% snapshot customer %}{{ config(target_schema='dim', unique_key='customer_id', " + strategy + ") }}"
            "select * from dim.source{% endsnapshot %}"
        )
        for batch in batches:
            house.table("dim.source", "customer_id varchar, city varchar, updated_at timestamp",
                        [(key, city, day(at)) for key, city, at in batch])  # fmt: skip
            ran = dbtRunner().invoke(
                ["--quiet", "snapshot", "--project-dir", str(project), "--profiles-dir", str(project),
                 "--target-path", str(project / "target"), "--log-path", str(project)]
            )  # fmt: skip
            DuckDBConnectionManager.close_all_connections()
            assert ran.success, ran.exception

    before = os.environ.get("DBT_SEND_ANONYMOUS_USAGE_STATS")
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
    yield snapshot
    if before is None:
        del os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"]
    else:
        os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = before


TIMESTAMP = "strategy='timestamp', updated_at='updated_at', hard_deletes='invalidate'"
CHECK = "strategy='check', check_cols=['city']"
KEEPS = ", hard_deletes='ignore'"
DELETES = ", hard_deletes='invalidate'"
ROME, OSLO, BONN = ("1", "Rome", 1), ("1", "Oslo", 3), ("1", "Bonn", 5)


def causes(found: Audit, code: str) -> list[str]:
    assert found.history.shape == "dbt snapshot"
    return [f.cause for f in found.faults if f.code == code]


def test_dbt_by_timestamp_overlaps_for_two_changes_in_one_batch_then_opens_a_second_one(
    house: House, snapshot: Snapshot
) -> None:
    house.log(ROME, OSLO, BONN)
    snapshot(TIMESTAMP, [ROME], [OSLO, BONN])
    found = house.audit()
    assert found.counts == {"overlap": 1, "two_open_versions": 1}
    assert "(city=Oslo) begins while that from 2024-01-01T00:00:00Z (city=Rome) holds" in causes(found, "overlap")[0]
    assert "as when they come in one batch" in causes(found, "two_open_versions")[0]
    snapshot(TIMESTAMP, [OSLO, BONN])
    found = house.audit()
    assert found.counts == {"overlap": 1, "two_open_versions": 1}
    assert "several changes of one batch were applied to the same open version" in causes(found, "overlap")[0]
    assert causes(found, "two_open_versions")[0].startswith("2 open versions since 2024-01-05T00:00:00Z (city=Bonn)")


def test_dbt_by_check_leaves_two_open_rows_for_two_changes_in_one_batch(house: House, snapshot: Snapshot) -> None:
    house.log(ROME, OSLO, BONN)
    snapshot(CHECK + KEEPS, [ROME], [OSLO, BONN])
    (cause,) = causes(house.audit(), "two_open_versions")
    assert "each of several changes opened one" in cause
    # dbt cannot know better than the time of the run.
    assert all("the time of a run" in cause for cause in causes(house.audit(), "wrong_start"))
    assert len(causes(house.audit(), "wrong_start")) == 3


def test_dbt_by_timestamp_loses_a_late_event(house: House, snapshot: Snapshot) -> None:
    house.log(ROME, OSLO, BONN)
    snapshot(TIMESTAMP + """, dbt_valid_to_current="cast('9999-12-31' as timestamp)" """, [ROME], [BONN], [OSLO])
    found = house.audit()
    assert found.history.open_end == "9999-12-31 00:00:00"
    cause = only(found, "lost_event")
    assert cause.startswith("the change at 2024-01-03T00:00:00Z (city: Rome→Oslo) is in no version")
    assert "either it came late and was dropped" in cause


def test_dbt_by_check_makes_a_late_event_the_current_one(house: House, snapshot: Snapshot) -> None:
    house.log(ROME, OSLO, BONN)
    snapshot(CHECK + KEEPS, [ROME], [BONN], [OSLO])
    (cause,) = causes(house.audit(), "wrong_end")
    assert "(city=Oslo) is still open, though 2024-01-05T00:00:00Z brought (city: Oslo→Bonn)" in cause
    assert "was made the current one" in cause
    # Even where the rows say when they changed.
    house.do("drop table dim.customer")
    snapshot(CHECK + KEEPS + ", updated_at='updated_at'", [ROME], [BONN], [OSLO])
    found = house.audit()
    assert found.counts == {"negative_version": 1, "overlap": 1, "wrong_end": 1}
    assert "was made the current one" in causes(found, "wrong_end")[0]
    assert "a late event" in causes(found, "negative_version")[0]


def test_dbt_by_timestamp_opens_a_version_for_a_no_op_and_by_check_does_not(house: House, snapshot: Snapshot) -> None:
    again = ("1", "Rome", 3)
    house.log(ROME, again)
    snapshot(TIMESTAMP, [ROME], [again])
    assert "an event that changed nothing opened it" in only(house.audit(), "touching_versions_equal")
    assert house.audit(log=False).counts == {"touching_versions_equal": 1}
    house.do("drop table dim.customer")
    snapshot(CHECK + KEEPS + ", updated_at='updated_at'", [ROME], [again])
    assert house.audit().is_right


def test_dbt_by_timestamp_overlaps_where_a_row_comes_back_and_by_check_leaves_the_gap(
    house: House, snapshot: Snapshot
) -> None:
    back = ("1", "Rome", 5)
    house.log(ROME, ("1", None, 3), back)
    snapshot(TIMESTAMP, [ROME], [], [back])
    found = house.audit()
    assert "closed by another change, or at the time of a run" in only(found, "overlap")
    house.do("drop table dim.customer")
    snapshot(CHECK + DELETES, [ROME], [], [back])
    assert house.audit(log=False).counts == {"gap": 1}, "by itself it is right"


def test_dbt_rows_that_mark_a_delete_are_no_versions(house: House, snapshot: Snapshot) -> None:
    snapshot(CHECK + ", hard_deletes='new_record'", [ROME], [])
    house.log(ROME, ("1", None, 3))
    found = house.audit()
    assert found.history.deleted == "dbt_is_deleted"
    assert found.counts == {"wrong_start": 1, "wrong_end": 1}
    assert house.audit(log=False).counts == {}
