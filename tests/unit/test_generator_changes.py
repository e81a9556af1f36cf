"""The feeds of changes: shapes as Debezium and AWS DMS write them, equal bytes for equal specs, every fault accounted for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import fields, replace
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c360_assets.reading import read_object
from c360_assets.reading_record import Layout
from generator import __main__ as command
from generator import debezium, dms
from generator.changes import COLUMNS, LOADED, ChangeFaults, ChangeSpec
from generator.changes_truth import records_of_changes, truth_of_changes
from generator.debezium import DEBEZIUM_MIX, DebeziumSpec
from generator.dms import DMS_MIX, DmsFaults, DmsSpec
from generator.objects import GeneratedObject
from generator.truth import CUSTOMERS, Truth, fold

MYSQL = DebeziumSpec(days=1, interval=3600, seed=7, customers=120, rows_per_file=60)
POSTGRESQL = replace(MYSQL, connector="postgresql")
BOTH = pytest.mark.parametrize("spec", [MYSQL, POSTGRESQL], ids=["mysql", "postgresql"])
DMS = DmsSpec(days=1, interval=3600, seed=7, customers=120, rows_per_file=60)
ALL = pytest.mark.parametrize("spec", [MYSQL, POSTGRESQL, DMS], ids=["mysql", "postgresql", "dms"])
LOADS = 2  # files of 60 for 80 % of 120 customers


@cache
def run(spec: ChangeSpec) -> list[GeneratedObject]:
    if isinstance(spec, DebeziumSpec):
        return list(debezium.generate(spec))
    assert isinstance(spec, DmsSpec)
    return list(dms.generate(spec))


@cache
def truth(spec: ChangeSpec) -> Truth:
    return fold(CUSTOMERS, truth_of_changes(run(spec)))


def faulty(spec: ChangeSpec, **shares: float) -> ChangeSpec:
    faults = DmsFaults(**shares) if isinstance(spec, DmsSpec) else ChangeFaults(**shares)
    return replace(spec, faults=faults)


def envelopes(sent: GeneratedObject) -> list[Any]:
    return [json.loads(line) for line in sent.body.splitlines()]


def all_envelopes(spec: DebeziumSpec) -> list[Any]:
    return [each for sent in run(spec) for each in envelopes(sent)]


def rows(sent: GeneratedObject) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(sent.body.decode())))


def current(spec: ChangeSpec) -> dict[str, dict[str, Any]]:
    return {row["customer_id"]: {name: row[name] for name in COLUMNS} for row in truth(spec).current}


# --- both -------------------------------------------------------------------------------------------------------------


@ALL
def test_equal_seeds_give_equal_bytes_and_others_do_not(spec: ChangeSpec) -> None:
    mixed = replace(spec, faults=DMS_MIX if isinstance(spec, DmsSpec) else DEBEZIUM_MIX)
    once = run(mixed)
    run.cache_clear()
    assert run(mixed) == once
    assert run(replace(mixed, seed=8))[0].body != once[0].body


@pytest.mark.parametrize("feed", ["customers_debezium", "customers_dms"])
def test_equal_arguments_give_equal_bytes_in_every_process(feed: str, tmp_path: Path) -> None:
    arguments = [feed, "--customers", "300", "--days", "0.5", "--rows-per-file", "100", "--faults"]
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "generator", *arguments, "--out", tmp_path / hash_seed],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
        )
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / seed / feed).iterdir()} for seed in "12")
    assert one == two


@ALL
def test_a_clean_run_has_the_load_then_a_file_per_interval(spec: ChangeSpec) -> None:
    objects = run(spec)
    assert len(objects) == len({each.name for each in objects}) == LOADS + 24
    assert [each.arrival for each in objects] == list(range(LOADS + 24))
    assert [each.modified for each in objects] == [spec.start] * LOADS + [spec.instant(n + 1) for n in range(24)]
    assert not any(each.refused or each.unreadable for each in objects)


@ALL
def test_every_customer_appears_and_is_inserted_updated_and_deleted(spec: ChangeSpec) -> None:
    result = truth(spec)
    assert len({row["customer_id"] for row in result.log}) == spec.customers
    ended = Counter(row["ended_by"] for row in result.history)
    assert ended["delete"] > 20
    assert ended["update"] > 500
    inserts = Counter(row["customer_id"] for row in result.history if row["change_type"] == "insert")
    assert max(inserts.values()) > 1  # somebody came back
    assert result.ties == []


@ALL
def test_every_column_changes_but_the_key_and_the_date_of_signup(spec: ChangeSpec) -> None:
    changed = {
        name
        for one, other in pairwise(truth(spec).history)
        if one["customer_id"] == other["customer_id"] and other["change_type"] == "update"
        for name in COLUMNS
        if one[name] != other[name]
    }
    assert changed == {*COLUMNS} - {"customer_id", "first_name", "signup_date"}


@ALL
def test_some_updates_change_nothing(spec: ChangeSpec) -> None:
    result = truth(spec)
    upserts = [row for row in result.log if row["op"] == "upsert"]
    same = [
        one
        for one, other in pairwise(upserts)
        if (one["customer_id"], one["content"]) == (other["customer_id"], other["content"])
    ]
    assert len(same) > 20


@pytest.mark.parametrize(
    "spec", [MYSQL, POSTGRESQL, replace(MYSQL, times="none"), DMS], ids=["mysql", "postgresql", "untimed", "dms"]
)
@pytest.mark.parametrize("fault", ["late", "duplicate_files", "renamed_files", "redelivered"])
def test_late_and_repeated_files_and_changes_change_nothing_in_the_end(spec: ChangeSpec, fault: str) -> None:
    hit = faulty(spec, **{fault: 0.3})
    assert run(hit) != run(spec)
    assert truth(hit) == truth(spec)
    if spec is DMS:
        assert {each.name for each in run(hit)} >= {each.name for each in run(spec)}


@ALL
def test_nulls_come_and_go(spec: ChangeSpec) -> None:
    history = truth(faulty(spec, nulls=0.1)).history
    pairs = [pair for pair in pairwise(history) if pair[0]["customer_id"] == pair[1]["customer_id"]]
    for column in COLUMNS[1:]:
        assert any(one[column] is None and other[column] is not None for one, other in pairs), column
        assert any(one[column] is not None and other[column] is None for one, other in pairs), column
    assert not any(row[column] is None for row in truth(spec).history for column in COLUMNS)


def refused(sent: GeneratedObject) -> dict[int, str]:
    return {record.ordinal: record.refused for record in records_of_changes(sent) if record.refused}


@ALL
def test_each_broken_row_is_broken_as_told_and_no_other(spec: ChangeSpec) -> None:
    objects = run(faulty(spec, broken_rows=0.2, redelivered=0.05))
    assert [refused(each) for each in objects] == [each.refused for each in objects]
    assert sum(len(each.refused) for each in objects) > 150
    kinds = {"blank_key", "unknown_op", "unreadable_time", "not_utf8"}
    kinds |= (
        {"too_few_fields", "too_many_fields", "repeated_header", "open_quote"}
        if isinstance(spec, DmsSpec)
        else {"broken_json", "unreadable_date"}
    )
    assert {reason for each in objects for reason in each.refused.values()} == kinds


def test_the_mixes_have_some_of_everything() -> None:
    for mix in (DEBEZIUM_MIX, DMS_MIX):
        assert all(getattr(mix, each.name) > 0 for each in fields(mix))


SHARES = st.sampled_from([0.0, 0.05, 0.5, 1.0])


@settings(max_examples=30, deadline=None)
@given(
    st.fixed_dictionaries({each.name: SHARES for each in fields(ChangeFaults)}),
    st.sampled_from(
        [
            replace(MYSQL, truncate=True),
            replace(MYSQL, truncate=True, times="none"),
            replace(POSTGRESQL, wrapped=True, times="ms", timed_load=True),
            DMS,
        ]
    ),
    SHARES,
    st.integers(0, 3),
    st.sampled_from([1, 2, 60]),
    st.sampled_from([1, 15]),
)
def test_whatever_befalls_a_run_it_is_told_and_its_order_does_not_matter(
    shares: dict[str, float], spec: ChangeSpec, deletes: float, seed: int, interval: int, customers: int
) -> None:
    run.cache_clear()
    truth.cache_clear()
    small = replace(spec, customers=customers, days=6 * interval / 86_400, interval=interval, rows_per_file=10)
    objects = run(faulty(replace(small, seed=seed, deletes=deletes), **shares))
    assert [each.arrival for each in objects] == list(range(len(objects)))
    assert [refused(each) for each in objects] == [each.refused for each in objects]
    events = truth_of_changes(objects)
    assert fold(CUSTOMERS, truth_of_changes(objects[::-1])) == fold(CUSTOMERS, events + events[:5])


# --- Debezium ---------------------------------------------------------------------------------------------------------


@BOTH
def test_the_snapshot_is_read_then_rows_are_created_updated_and_deleted(spec: DebeziumSpec) -> None:
    ops = [[each["op"] for each in envelopes(sent) if each] for sent in run(spec)]
    assert [*ops[0], *ops[1]] == ["r"] * int(120 * LOADED)
    assert {op for later in ops[LOADS:] for op in later} == {"c", "u", "d"}
    marks = [each["source"]["snapshot"] for each in all_envelopes(spec) if each]
    assert marks[: int(120 * LOADED)] == ["first", *["true"] * 94, "last"]
    assert {*marks[96:]} == {"false"}


@BOTH
def test_images_are_those_of_the_operation(spec: DebeziumSpec) -> None:
    for each in filter(None, all_envelopes(spec)):
        before, after, op = each["before"], each["after"], each["op"]
        assert (after is None) == (op == "d")
        for image in filter(None, (before, after)):
            assert tuple(image) == COLUMNS
        if op in "rc":
            assert before is None
        elif op == "d":
            assert before["customer_id"].startswith("CUST_")
            assert (before["email"] is None) == (spec is POSTGRESQL)
        else:
            assert (before is None) == (spec is POSTGRESQL)


def test_the_image_before_is_the_one_after_of_the_change_before_also_past_a_truncate() -> None:
    there: dict[str, Any] = {}
    for each in filter(None, all_envelopes(faulty(replace(MYSQL, truncate=True), nulls=0.1))):
        if each["op"] == "t":
            there.clear()
            continue
        key = (each["after"] or each["before"])["customer_id"]
        assert each["before"] == there.get(key)
        there[key] = each["after"]


@BOTH
def test_a_tombstone_follows_every_delete_and_nothing_else(spec: DebeziumSpec) -> None:
    for sent in run(spec):
        for one, other in pairwise([*envelopes(sent), {"op": "end"}]):
            assert (other is None) == (one is not None and one["op"] == "d")
    assert b"\nnull\n" in run(spec)[-1].body


@BOTH
def test_signup_is_counted_in_days_some_of_them_before_1970(spec: DebeziumSpec) -> None:
    days = [each["after"]["signup_date"] for each in all_envelopes(spec) if each and each["after"]]
    assert {type(each) for each in days} == {int}
    assert min(days) < 0 < max(days)


def place(envelope: dict[str, Any]) -> tuple[int, ...]:
    source = envelope["source"]
    if "lsn" in source:
        return (source["lsn"],)
    return int(source["file"].removeprefix("mysql-bin.")), source["pos"], source["row"]


@BOTH
def test_every_change_has_a_place_of_its_own_after_the_one_before(spec: DebeziumSpec) -> None:
    places = [place(each) for each in all_envelopes(spec) if each]
    assert len(set(places[: int(120 * LOADED)])) == 1  # the snapshot is one place
    assert all(one < other for one, other in pairwise(places[int(120 * LOADED) - 1 :]))


def test_places_are_such_that_text_and_floats_would_get_them_wrong() -> None:
    files = [each["source"]["file"] for each in all_envelopes(MYSQL) if each]
    assert files != sorted(files)
    assert max(each["source"]["row"] for each in all_envelopes(MYSQL) if each) >= 1
    lsns = [place(each)[0] for each in all_envelopes(POSTGRESQL) if each and each["op"] != "r"]
    assert len({float(lsn) for lsn in lsns}) < len(lsns)


@BOTH
def test_what_is_there_in_the_end_is_what_the_last_change_left(spec: DebeziumSpec) -> None:
    there: dict[str, Any] = {}
    for each in filter(None, all_envelopes(spec)):
        there[(each["after"] or each["before"])["customer_id"]] = each["after"]
    expected = {key: image for key, image in there.items() if image}
    found = current(spec)
    assert found.keys() == expected.keys()
    for key, row in found.items():
        days = (datetime.fromisoformat(row["signup_date"]) - datetime(1970, 1, 1)).days
        assert {**row, "signup_date": days} == expected[key]


@BOTH
def test_some_transactions_change_a_row_twice_and_only_the_place_tells_which_is_last(spec: DebeziumSpec) -> None:
    changes = [each for each in all_envelopes(spec) if each and each["op"] != "r"]
    ids = [(each["source"]["ts_ns"], (each["after"] or each["before"])["customer_id"]) for each in changes]
    assert max(Counter(ids).values()) > 1


def test_mysql_has_whole_seconds_and_postgresql_times_finer_than_a_microsecond() -> None:
    for spec, unit in ((MYSQL, 10**9), (POSTGRESQL, 1)):
        times = [each["source"]["ts_ns"] for each in all_envelopes(spec) if each and each["op"] != "r"]
        assert all(time % unit == 0 for time in times)
        assert any(time % 1000 for time in times) == (unit == 1)


@pytest.mark.parametrize("times", ["ns", "us", "ms", "none"])
def test_times_come_in_the_units_that_are_asked_for(times: str) -> None:
    units = {"ns": ["ts_ms", "ts_us", "ts_ns"], "us": ["ts_ms", "ts_us"], "ms": ["ts_ms"], "none": []}
    for each in filter(None, all_envelopes(replace(POSTGRESQL, times=times))):
        stated = [name for name in each["source"] if name.startswith("ts_")]
        assert stated == ([] if each["op"] == "r" else units[times])
        assert [name for name in each if name.startswith("ts_")] == units[times if times != "none" else "ns"]


def test_without_times_of_the_source_the_envelopes_order_the_changes_alike() -> None:
    bare = replace(POSTGRESQL, times="none")
    assert current(bare) == current(POSTGRESQL)
    assert truth(bare).log[-1]["event_time"] != truth(POSTGRESQL).log[-1]["event_time"]


def test_a_load_has_a_time_only_if_it_is_asked_for() -> None:
    load = {row["event_time"] for row in truth(MYSQL).log if row["event_time"] < MYSQL.start}
    assert load == {datetime(1970, 1, 1)}
    timed = replace(MYSQL, timed_load=True)
    assert {row["event_time"] for row in truth(timed).log if row["event_time"] < MYSQL.start} == {MYSQL.instant(-1)}
    assert current(timed) == current(MYSQL)


def test_wrapped_envelopes_say_the_same() -> None:
    wrapped = replace(MYSQL, wrapped=True)
    first, *_ = envelopes(run(wrapped)[0])
    assert list(first) == ["schema", "payload"]
    assert [field["field"] for field in first["schema"]["fields"][1]["fields"]] == [*COLUMNS]
    assert [each and each["payload"] for each in all_envelopes(wrapped)] == all_envelopes(MYSQL)
    assert truth(wrapped) == truth(MYSQL)


@BOTH
def test_a_change_that_comes_again_has_an_envelope_of_a_later_time(spec: DebeziumSpec) -> None:
    sent: dict[tuple[Any, ...], set[int]] = {}
    for each in filter(None, all_envelopes(faulty(spec, redelivered=0.2))):
        key = (each["after"] or each["before"])["customer_id"]
        sent.setdefault((key, *place(each), each["op"]), set()).add(each["ts_ns"])
    sendings = Counter(len(times) for times in sent.values())
    assert sendings.keys() == {1, 2}
    assert sendings[2] > 200


@BOTH
def test_no_envelope_is_as_old_as_the_one_before_it(spec: DebeziumSpec) -> None:
    times = [each["ts_ns"] for each in all_envelopes(spec) if each]
    assert all(one < other for one, other in pairwise(times))


@BOTH
def test_a_truncate_ends_all_at_an_instant_of_its_own(spec: DebeziumSpec) -> None:
    emptied = replace(spec, truncate=True)
    [only] = [each for each in all_envelopes(emptied) if each and each["op"] == "t"]
    assert (only["before"], only["after"]) == (None, None)
    assert envelopes(run(emptied)[LOADS + 12]) == [only]
    when = spec.instant(12)
    assert not any(row["valid_from"] == when for row in truth(emptied).history)
    ended = [row for row in truth(emptied).history if row["valid_to"] == when]
    assert len(ended) > 60
    assert {row["ended_by"] for row in ended} == {"delete"}
    assert all(row["valid_to"] <= when for row in truth(emptied).history if row["valid_from"] < when)
    assert 40 < len(current(emptied)) < 120  # some are back


def test_the_files_of_a_topic_are_named_by_their_first_offset() -> None:
    offset = 0
    for sent in run(MYSQL):
        assert sent.name == f"customers_debezium/shop.inventory.customers+0+{offset:010d}.json"
        offset += sent.body.count(b"\n")


def test_broken_files_have_no_bytes_or_half_of_them() -> None:
    objects = run(faulty(MYSQL, broken_files=0.5))
    cut, empty = [each for each in objects if each.unreadable], [each for each in objects if not each.body]
    assert (len(objects), len(cut) + len(empty)) == (LOADS + 24, 13)
    assert min(len(cut), len(empty)) == 6
    for each in cut:
        assert each.name.endswith(".json.gz")
        with pytest.raises((EOFError, zlib.error)):
            gzip.decompress(each.body)


PAYLOAD = Layout(("payload",), frozenset(), payload=True, tombstones=True)


@BOTH
def test_the_reader_numbers_and_refuses_envelopes_as_told(spec: DebeziumSpec) -> None:
    for sent in run(faulty(replace(spec, wrapped=spec is MYSQL), broken_rows=0.7)):
        reading = read_object(io.BytesIO(sent.body), "json", PAYLOAD)
        found = {row.row: row.reasons for chunk in reading.chunks for row in chunk.refused}
        assert found == {at: (why,) for at, why in sent.refused.items() if why in ("broken_json", "not_utf8")}


REFEREE = Path(__file__).parents[3] / "shared" / "referee" / "debezium_envelopes.json"


@pytest.mark.skipif(not REFEREE.exists(), reason=f"no outside cases: {REFEREE} is not there")
def test_envelopes_have_the_fields_of_debeziums_own_examples() -> None:
    examples = json.loads(REFEREE.read_text())["envelopes"]
    [_, mysql] = [each for each in examples if each and each.get("source", {}).get("version") == "3.0.1.Final"]
    made = next(each for each in all_envelopes(MYSQL) if each and each["op"] == "u")
    assert made.keys() == mysql.keys()
    assert made["source"].keys() == mysql["source"].keys()
    [postgresql] = [each["payload"] for each in examples if each and "lsn" in each.get("payload", {}).get("source", {})]
    made = next(each for each in all_envelopes(replace(POSTGRESQL, times="ms")) if each and each["op"] == "c")
    assert made.keys() == postgresql.keys()
    assert made["source"].keys() == postgresql["source"].keys()
    assert re.fullmatch(r'\["[0-9]+","[0-9]+"\]', made["source"]["sequence"])


# --- DMS --------------------------------------------------------------------------------------------------------------


def test_a_load_is_counted_and_a_file_of_changes_named_by_when_it_was_closed() -> None:
    names = [each.name for each in run(DMS)]
    assert names[:LOADS] == ["customers_dms/LOAD00000001.csv", "customers_dms/LOAD00000002.csv"]
    closed = [re.fullmatch(r"customers_dms/([0-9]{8}-[0-9]{6})[0-9]{3}\.csv", name) for name in names[LOADS:]]
    assert [each and each[1] for each in closed] == [f"{DMS.instant(n + 1):%Y%m%d-%H%M%S}" for n in range(24)]
    many = [each.name for each in run(replace(DMS, customers=25, rows_per_file=2, days=0.05))]
    assert many[8:10] == ["customers_dms/LOAD00000009.csv", "customers_dms/LOAD0000000A.csv"]


def test_a_load_has_the_columns_only_and_changes_have_operation_and_time_before_them() -> None:
    headers = [each.body.split(b"\n", 1)[0].decode().split(",") for each in run(DMS)]
    assert headers == [[*COLUMNS]] * LOADS + [["Op", "dms_timestamp", *COLUMNS]] * 24
    assert {row["Op"] for each in run(DMS)[LOADS:] for row in rows(each)} == {"I", "U", "D"}


def test_times_of_changes_lie_in_the_interval_of_their_file_in_order() -> None:
    for number, each in enumerate(run(DMS)[LOADS:]):
        times = [datetime.strptime(row["dms_timestamp"], "%Y-%m-%d %H:%M:%S.%f") for row in rows(each)]
        assert times == sorted(times)
        assert DMS.instant(number) <= times[0] <= times[-1] < DMS.instant(number + 1)


def test_no_transaction_changes_a_row_twice_however_few_there_are() -> None:
    few = replace(DMS, customers=4, rows_per_file=40, deletes=0.5)
    changes = [(row["dms_timestamp"], row["customer_id"]) for each in run(few)[1:] for row in rows(each)]
    assert len(changes) == len(set(changes)) > 500
    assert truth(few).ties == []


def test_deleted_rows_state_all_their_columns_or_their_key_alone() -> None:
    gone = [row for each in run(DMS)[LOADS:] for row in rows(each) if row["Op"] == "D"]
    stated = Counter(bool(row["email"]) for row in gone)
    assert min(stated[True], stated[False]) > 10
    assert all(row["customer_id"] for row in gone)


def test_what_is_there_in_the_end_is_what_the_last_row_left() -> None:
    there: dict[str, Any] = {}
    for each in run(DMS):
        for row in rows(each):
            there[row["customer_id"]] = {name: row[name] for name in COLUMNS} if row.get("Op") != "D" else None
    assert current(DMS) == {key: row for key, row in there.items() if row}


def test_ties_are_of_both_rules_where_they_are_asked_for() -> None:
    tied = faulty(DMS, ties=0.05)
    assert {tie["rule"] for tie in truth(tied).ties} == {"content", "delete"}
    gone, gone_tied = (
        sum(b"\nD," in b"\n" + line for each in run(of) for line in each.body.splitlines()) for of in (DMS, tied)
    )
    assert gone_tied > gone


def test_broken_files_break_in_every_way() -> None:
    sound = {each.name: each for each in run(DMS)}
    broken = [each for each in run(faulty(DMS, broken_files=0.5)) if each != sound.get(each.name)]
    assert len(broken) == 13
    for each in broken:
        if each.refused:
            assert set(each.refused.values()) == {"missing_key_column"}
            header = each.body.split(b"\n", 1)[0].decode().split(",")
            assert header in ([*COLUMNS[1:]], ["Op", "dms_timestamp", *COLUMNS[1:]])
    assert min(Counter((bool(each.refused), each.unreadable, bool(each.body)) for each in broken).values()) >= 3


CSV = Layout(("op", "dms_timestamp", *COLUMNS), frozenset({"customer_id"}))


def test_the_reader_numbers_and_refuses_rows_as_told() -> None:
    of_reading = {"too_few_fields", "too_many_fields", "not_utf8", "open_quote", "repeated_header"}
    for sent in run(faulty(DMS, broken_rows=0.2)):
        reading = read_object(io.BytesIO(sent.body), "csv", CSV)
        found = {row.row: row.reasons for chunk in reading.chunks for row in chunk.refused}
        assert found.keys() == {at for at, why in sent.refused.items() if why in of_reading}


# --- spec and command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"customers": 0}, "customers is 0"),
        ({"rows_per_file": 0}, "rows_per_file is 0"),
        ({"rows_per_file": 500_001}, "rows_per_file is 500001: a second has no room"),
        ({"days": 0.01}, "0.01 days hold no file"),
        ({"deletes": 2}, "deletes is 2: a share lies between 0 and 1"),
        ({"connector": "oracle"}, "connector is 'oracle'; there are: mysql, postgresql"),
        ({"times": "s"}, "times is 's'; there are: ns, us, ms, none"),
        ({"times": "none", "timed_load": True}, "timed_load with times none"),
    ],
)
def test_a_run_that_cannot_be_is_an_error_that_says_why(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(MYSQL, **wrong)


@pytest.mark.parametrize(
    ("feed", "faults"), [("customers_debezium", ChangeFaults), ("customers_dms", DmsFaults)], ids=["debezium", "dms"]
)
def test_help_names_every_fault(feed: str, faults: type, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main([feed, "--help"])
    assert exited.value.code == 0
    printed = capsys.readouterr().out
    for each in fields(faults):
        assert f"--{each.name.replace('_', '-')} SHARE" in printed


ARGUMENTS = ["--customers", "120", "--rows-per-file", "60", "--seed", "7"]


@pytest.mark.parametrize(
    ("arguments", "spec"),
    [
        (["customers_debezium"], MYSQL),
        (
            [
                "customers_debezium",
                "--connector",
                "postgresql",
                "--wrapped",
                "--times",
                "us",
                "--timed-load",
                "--truncate",
            ],
            replace(POSTGRESQL, wrapped=True, times="us", timed_load=True, truncate=True),
        ),
        (["customers_debezium", "--faults"], replace(MYSQL, faults=DEBEZIUM_MIX)),
        (["customers_dms", "--deletes", "0.2", "--ties", "0.1"], faulty(replace(DMS, deletes=0.2), ties=0.1)),
        (["customers_dms", "--faults"], replace(DMS, faults=DMS_MIX)),
    ],
)
def test_the_command_writes_a_run_into_a_folder(
    arguments: list[str], spec: ChangeSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*arguments, *ARGUMENTS, "--out", str(tmp_path)]) == 0
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {each.name: each.body for each in run(spec)}
    assert capsys.readouterr().out.startswith(f"sent {len(run(spec))} files, ")


def test_wrong_usage_exits_64_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(["customers_debezium", "--out", "x", "--times", "none", "--timed-load"])
    assert exited.value.code == 64
    assert "timed_load with times none" in capsys.readouterr().err
