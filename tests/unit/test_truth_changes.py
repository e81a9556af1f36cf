"""The oracle of change feeds against lines that can be checked by eye: Debezium's envelopes and rows of AWS DMS."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from generator.changes_truth import Record, records_of_changes, truth_of_changes
from generator.objects import GeneratedObject
from generator.truth import CUSTOMERS, Entity, Event, fold

EPOCH = datetime(1970, 1, 1)
PERSON = Entity(key=("id",), tracked=("city",))
SECOND = {"ts_ms": 1_000}


def sent(name: str, body: bytes, *, unreadable: bool = False) -> GeneratedObject:
    return GeneratedObject(name, body, 0, EPOCH, unreadable=unreadable)


def envelope(
    op: str, key: Any = "7", city: Any = "Rome", *, source: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    image = {"id": key, "city": city}
    images = {"before": image if op == "d" else None, "after": None if op in "dt" else image}
    return {**images, "op": op, "source": SECOND if source is None else source, **more}


def lines(*values: Any) -> GeneratedObject:
    return sent("a.json", b"".join(json.dumps(value).encode() + b"\n" for value in values))


def events(*values: Any, entity: Entity = PERSON) -> list[Event]:
    return truth_of_changes([lines(*values)], entity)


def event(value: Any) -> Event:
    [only] = events(value)
    return only


def refusals(*objects: GeneratedObject, entity: Entity = PERSON) -> list[dict[int, str]]:
    return [{r.ordinal: r.refused for r in records_of_changes(each, entity) if r.refused} for each in objects]


# --- Debezium ---------------------------------------------------------------------------------------------------------


def test_read_created_and_updated_rows_are_upserts_of_what_is_after() -> None:
    second = EPOCH + timedelta(seconds=1)
    for op in "rcu":
        assert event(envelope(op)) == Event(("7",), second, "upsert", {"city": "Rome"})


def test_a_delete_has_its_key_in_what_was_before() -> None:
    assert event(envelope("d")) == Event(("7",), EPOCH + timedelta(seconds=1), "delete")


def test_a_tombstone_is_a_record_that_says_nothing() -> None:
    records = list(records_of_changes(lines(envelope("d"), None, {"schema": None, "payload": None}), PERSON))
    assert records[1:] == [Record(2), Record(3)]
    assert len(events(envelope("d"), None)) == 1


def test_an_envelope_may_be_wrapped() -> None:
    assert events({"schema": {"type": "struct"}, "payload": envelope("c")}) == events(envelope("c"))


@pytest.mark.parametrize(
    ("source", "own", "microseconds"),
    [
        ({"ts_ns": 5_999, "ts_us": 6, "ts_ms": 7}, {"ts_ns": 8}, 5),
        ({"ts_us": 6, "ts_ms": 7}, {"ts_ns": 8_000}, 6),
        ({"ts_ns": None, "ts_us": None, "ts_ms": 7}, {"ts_us": 8}, 7_000),
        ({}, {"ts_ns": 8_999, "ts_us": 9, "ts_ms": 10}, 8),
        ({"ts_ns": None}, {"ts_us": 9, "ts_ms": 10}, 9),
        ({"ts_sec": 3}, {"ts_ms": 10}, 10_000),
        ({"ts_ms": 0}, {"ts_ms": 10}, 0),
        ({"ts_ns": -1}, {}, -1),
    ],
)
def test_the_source_tells_the_time_or_else_the_envelope_and_the_finest_unit_counts(
    source: dict[str, int], own: dict[str, int], microseconds: int
) -> None:
    assert event(envelope("c", source=source, **own)).event_time == EPOCH + timedelta(microseconds=microseconds)


def test_a_row_read_without_a_time_of_the_source_is_of_the_beginning_whatever_the_envelope_says() -> None:
    read = envelope("r", source={}, ts_ms=1_000)
    assert event(read).event_time == EPOCH
    [early] = truth_of_changes([lines(read)], PERSON, initial=datetime(2020, 1, 1))
    assert early.event_time == datetime(2020, 1, 1)
    assert event(envelope("r", ts_ms=9_000)).event_time == EPOCH + timedelta(seconds=1)


def test_the_position_is_the_number_of_the_binlog_then_the_place_in_it_then_the_row() -> None:
    source = {**SECOND, "file": "mysql-bin.000010", "pos": 4, "row": 1}
    assert event(envelope("c", source=source)).position == (10, 4, 1)
    files = ["mysql-bin.999999", "mysql-bin.1000000"]
    turned = [envelope("u", city=file, source={**source, "file": file}) for file in files]
    [row] = fold(PERSON, events(*turned)).current
    assert row["city"] == "mysql-bin.1000000"


def test_the_position_of_postgresql_is_its_lsn_to_the_last_digit() -> None:
    assert event(envelope("c", source={**SECOND, "lsn": 2**53 + 1})).position == (Decimal(2**53 + 1),)
    assert event(envelope("c", source={**SECOND, "lsn": None})).position is None


def test_positions_order_what_one_transaction_does_to_a_row() -> None:
    sources = [{**SECOND, "file": "bin.1", "pos": pos, "row": 0} for pos in (900, 1_000, 1_100)]
    made = [envelope("c", source=sources[0]), envelope("d", source=sources[1]), envelope("c", source=sources[2])]
    for order in (made, made[::-1]):
        assert [row["city"] for row in fold(PERSON, events(*order)).history] == ["Rome"]


def test_values_are_text_trimmed_and_a_date_is_counted_in_days() -> None:
    after = {"customer_id": 7, "city": " Rome ", "state": "", "phone": 39.50, "signup_date": -1, "shoe": 44}
    [made] = events({"op": "c", "after": after, "source": SECOND}, entity=CUSTOMERS)
    stated = {"city": "Rome", "phone": "39.5", "signup_date": "1969-12-31"}
    assert made.key == ("7",)
    assert made.values == {**dict.fromkeys(CUSTOMERS.attributes), **stated}


def test_a_line_that_cannot_be_taken_says_why() -> None:
    wrong = [
        b'{"op":"c","after"',
        b'{"op":"c","after":{"id":"7","city":"\xe9"},"source":{"ts_ms":1}}',
        json.dumps(envelope("x")).encode(),
        json.dumps({**envelope("c"), "op": None}).encode(),
        json.dumps(envelope("c", source={})).encode(),
        json.dumps(envelope("c", source={"ts_us": "noon"})).encode(),
        json.dumps(envelope("c", source={"ts_ms": 10**17})).encode(),
        json.dumps(envelope("c", " ")).encode(),
        json.dumps(envelope("d", None)).encode(),
        json.dumps({**envelope("c"), "after": None}).encode(),
        json.dumps(envelope("c", source={**SECOND, "file": "bin", "pos": 1, "row": 0})).encode(),
    ]
    assert refusals(sent("a.json", b"\n".join(wrong))) == [
        {
            1: "broken_json",
            2: "not_utf8",
            3: "unknown_op",
            4: "unknown_op",
            5: "unreadable_time",
            6: "unreadable_time",
            7: "unreadable_time",
            8: "blank_key",
            9: "blank_key",
            10: "blank_key",
            11: "unreadable_position",
        }
    ]


def test_a_date_that_cannot_be_read_refuses_the_row_but_not_its_delete() -> None:
    dated = Entity(key=("id",), tracked=("signup_date",))
    rows = [
        {"op": op, image: {"id": "7", "signup_date": date}, "source": SECOND}
        for op, image, date in [("c", "after", "soon"), ("c", "after", 10**9), ("d", "before", "soon")]
    ]
    assert refusals(lines(*rows), entity=dated) == [{1: "unreadable_date", 2: "unreadable_date"}]


# --- truncates --------------------------------------------------------------------------------------------------------


def at(milliseconds: int, **position: int) -> dict[str, Any]:
    return {"source": {"ts_ms": milliseconds, **position}}


def ends(*values: Any) -> list[tuple[str, int | None]]:
    history = fold(PERSON, events(*values)).history
    return [(r["id"], r["valid_to"] and (r["valid_to"] - EPOCH) // timedelta(milliseconds=1)) for r in history]


def test_a_truncate_ends_all_that_was_there_before_it() -> None:
    made = [envelope("c", "1", **at(1)), envelope("r", "2", source={}), envelope("t", **at(5))]
    assert ends(*made) == ends(*made[::-1]) == [("1", 5), ("2", 5)]
    assert ends(*made, envelope("c", "1", **at(6))) == [("1", 5), ("1", None), ("2", 5)]


def test_a_truncate_ends_what_comes_later_from_an_earlier_file() -> None:
    late, emptied = lines(envelope("c", "1", **at(1))), lines(envelope("t", **at(5)))
    implied = Event(("1",), EPOCH + timedelta(milliseconds=5), "delete")
    assert implied in truth_of_changes([emptied, late], PERSON)
    assert truth_of_changes([emptied], PERSON) == []


def test_a_truncate_leaves_alone_what_was_made_at_its_instant_and_after_its_position() -> None:
    assert ends(envelope("t", **at(5, lsn=6)), envelope("c", "1", **at(5, lsn=7))) == [("1", None)]
    assert ends(envelope("t", **at(5, lsn=6)), envelope("c", "1", **at(5, lsn=5))) == []
    assert ends(envelope("t", **at(5)), envelope("c", "1", **at(5))) == []


def test_the_key_of_a_refused_row_is_one_that_the_feed_had() -> None:
    dated = Entity(key=("id",), tracked=("signup_date",))
    refused = {"op": "c", "after": {"id": "7", "signup_date": "soon"}, "source": {"ts_ms": 1}}
    deleted = [event.key for event in events(refused, envelope("t", **at(5)), entity=dated)]
    assert deleted == [("7",)]


# --- DMS --------------------------------------------------------------------------------------------------------------


def csv_events(*bodies: bytes) -> list[Event]:
    return truth_of_changes([sent(f"{at}.csv", body) for at, body in enumerate(bodies)], PERSON)


def test_a_full_load_has_neither_operation_nor_time_nor_position() -> None:
    assert csv_events(b"id,city\n7,Rome\n") == [Event(("7",), EPOCH, "upsert", {"city": "Rome"})]


def test_a_change_has_its_operation_and_the_time_of_its_commit() -> None:
    made = csv_events(b"Op,dms_timestamp,id,city\nI,1970-01-01 00:00:01.5,7,Rome\nD,1970-01-01 00:00:02,7,\n")
    assert made == [
        Event(("7",), EPOCH + timedelta(seconds=1.5), "upsert", {"city": "Rome"}),
        Event(("7",), EPOCH + timedelta(seconds=2), "delete"),
    ]


def test_what_one_transaction_does_to_a_row_is_a_tie_unless_a_column_states_positions() -> None:
    rows = b"\nU,1970-01-01,7,Rome\nU,1970-01-01,7,Oslo\n"
    assert len(fold(PERSON, csv_events(b"Op,dms_timestamp,id,city" + rows)).ties) == 1
    rows = b"\nU,1970-01-01,10,7,Rome\nU,1970-01-01,9,7,Oslo\n"
    truth = fold(PERSON, csv_events(b"Op,dms_timestamp,source_position,id,city" + rows))
    assert (truth.ties, [row["city"] for row in truth.current]) == ([], ["Rome"])


def test_a_row_that_cannot_be_taken_says_why() -> None:
    rows = [b"U,1970-01-01,7", b"U,1970-01-01,7,Rome,x", b"op,DMS_TIMESTAMP,id,city", b"X,1970-01-01,7,Rome"]
    rows += [b"U,,7,Rome", b"U,1970-01-01, ,Rome", b'U,1970-01-01,7,"Rome', b"U,1970-01-01,7,\xe9"]
    changes = sent("a.csv", b"Op,dms_timestamp,id,city\n" + b"\n".join(rows))
    keyless = sent("b.csv", b"Op,dms_timestamp,city\nU,1970-01-01,Rome\n")
    assert refusals(changes, keyless) == [
        {
            1: "too_few_fields",
            2: "too_many_fields",
            3: "repeated_header",
            4: "unknown_op",
            5: "unreadable_time",
            6: "blank_key",
            7: "open_quote",
            8: "not_utf8",
        },
        {1: "missing_key_column"},
    ]


def test_empty_and_unreadable_objects_have_no_records_and_gzip_is_read() -> None:
    objects = [sent("a.csv", b""), sent("a.json", b""), sent("b.csv", b"id,city\n")]
    assert truth_of_changes([*objects, sent("a.json.gz", b"\x1f", unreadable=True)], PERSON) == []
    assert len(truth_of_changes([sent("a.csv.gz", gzip.compress(b"id,city\n7,Rome\n"))], PERSON)) == 1


# --- what others write ------------------------------------------------------------------------------------------------

REFEREE = Path(__file__).parents[3] / "shared" / "referee" / "debezium_envelopes.json"


@pytest.mark.skipif(not REFEREE.exists(), reason=f"no outside cases: {REFEREE} is not there")
def test_agrees_with_debeziums_own_examples() -> None:
    case = json.loads(REFEREE.read_text())
    columns = ("first_name", "last_name", "email")
    entity = Entity(key=("id",), tracked=columns)
    truth = fold(entity, truth_of_changes([lines(*case["envelopes"])], entity))
    expected = [{**row, "id": str(row["id"])} for row in case["expected_last_state"]]
    assert [{name: row[name] for name in ("id", *columns)} for row in truth.current] == expected
