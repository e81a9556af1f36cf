"""Quarantine: every reason at once, trying again after a fix, letting go, and the counting that adds up throughout."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from c360_assets import quarantine
from c360_assets.quarantine import Choice, Entry
from c360_assets.settings import PROJECT
from tests.parts import Platform, Row, project_with

CLEAN = ("--select", "clean", "--exclude-resource-type", "test")
HEADER = "customer_id,city,signup_date,updated_at,op,source_position"
FEED = "models/staging/customers.yml"


def table(*rows: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def etag(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def entries(platform: Platform, **choice: Any) -> list[Entry]:
    with platform.warehouse.reading() as session:
        return quarantine.entries(session, Choice(**choice))


def refused(platform: Platform, **choice: Any) -> list[tuple[str, int, str, tuple[str, ...]]]:
    """(object's name, row, stage, reasons), by object and row."""
    found = entries(platform, **choice)
    return sorted((e.key.rsplit("/", 1)[-1], e.row, e.stage, e.reasons) for e in found)


def accounting(platform: Platform) -> list[Row]:
    return platform.rows(
        "select split_part(_key, '/', -1), received, accepted, quarantined, duplicates from clean.accounting order by all"
    )


def replay(platform: Platform, chosen: list[Entry]) -> quarantine.Replayed:
    return quarantine.replay(platform.warehouse, platform.bucket, platform.feeds, chosen, platform.settings.spool)


def declared(change: tuple[str, str]) -> dict[str, str]:
    """The customers' declaration with one text in the place of another."""
    text = (PROJECT / "dbt" / FEED).read_text()
    assert text.count(change[0]) == 1
    return {FEED: text.replace(*change)}


@pytest.fixture(scope="module")
def knows_x(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dbt project in which the operation X is an upsert too."""
    return project_with(tmp_path_factory.mktemp("knows_x"), declared(("upsert: [I, U]", "upsert: [I, U, X]")))


def test_a_key_is_meant_as_it_stands_and_by_its_last_part(platform: Platform) -> None:
    """No letter of it stands for others."""
    for name in ("orders_1.csv", "orders-1.csv", "a%.csv", "ab.csv"):
        platform.put(name, table("x,Rome,2020-01-31,yesterday,I,1"))
    platform.sync()
    assert [name for name, *_ in refused(platform, key="orders_1.csv")] == ["orders_1.csv"]
    assert [name for name, *_ in refused(platform, key=f"{platform.bucket.prefix}/customers/a%.csv")] == ["a%.csv"]
    assert refused(platform, key="rders_1.csv") == []
    released = quarantine.release_objects(platform.warehouse, platform.feeds["customers"], "a%.csv")
    assert [key.rsplit("/", 1)[-1] for key in released] == ["a%.csv"]


def test_a_row_is_refused_with_all_its_reasons_and_a_delete_needs_only_its_key(platform: Platform) -> None:
    platform.put(
        "mixed.csv",
        table(
            "  ,Rome,31/31/2020,yesterday,Q,abc",
            "good,Rome,2020-01-31,2024-01-01,I,1",
            "gone,Rome,2020-01-31,2024-01-01,I,1",
            "gone,,no date at all,2024-01-02,D,2",
            "never,,,2024-01-02,D,",
            ",,,2024-01-02,D,2",
            "ambiguous,Rome,03/04/2020,2024-01-01,I,1",
            "timeless,Rome,,,I,1",
        ),
    )
    platform.sync()
    every = ("missing_key:customer_id", "bad_event_time", "bad_operation", "bad_position", "bad_date:signup_date")
    assert refused(platform) == [
        ("mixed.csv", 1, "cleaning", every),
        ("mixed.csv", 6, "cleaning", ("missing_key:customer_id",)),
        ("mixed.csv", 7, "cleaning", ("bad_date:signup_date",)),
        ("mixed.csv", 8, "cleaning", ("missing_event_time",)),
    ]
    assert accounting(platform) == [("mixed.csv", 8, 4, 4, 0)]
    assert platform.rows("select customer_id from core.customer") == [("good",)]
    assert platform.rows("select customer_id, ended_by from core.customer_history order by 1") == [
        ("gone", "delete"),
        ("good", None),
    ]
    assert platform.rows("select customer_id from core.customer_log where op = 'delete' order by 1") == [
        ("gone",),
        ("never",),
    ]
    # The text is all there, also of what was fine.
    assert '"customer_id":"  ","' in entries(platform, row=1)[0].raw
    assert '"signup_date":"31/31/2020"' in entries(platform, row=1)[0].raw


def test_a_replayed_row_stands_at_its_own_event_time_and_one_that_is_still_bad_stays(
    platform: Platform, knows_x: Path
) -> None:
    rows = ["1,Rome,,2024-01-01,I,", "1,Oslo,,2024-01-02,X,", "1,Bern,,2024-01-02,Q,", "1,Bonn,,2024-01-03,U,"]
    platform.put("customers.csv", table(*rows))
    platform.put("customer_20240102000000.csv", table("2,Rome,X", "2,Oslo,U", header="customer_id,city,op"))
    platform.sync()
    assert accounting(platform) == [("customer_20240102000000.csv", 2, 1, 1, 0), ("customers.csv", 4, 2, 2, 0)]
    before = platform.rows("select known_at from core.customer_log where customer_id = '1' and city = 'Bonn'")

    changed = Platform(platform.settings, platform.bucket, project=knows_x)
    changed.sync()
    assert len(refused(changed)) == 3  # a changed rule alone tries nothing again

    tried = replay(changed, entries(changed))
    assert (tried.cleaning, tried.read, tried.still_refused) == (3, 0, [])
    changed.sync()
    assert refused(changed) == [("customers.csv", 3, "cleaning", ("bad_operation",))]
    assert accounting(changed) == [("customer_20240102000000.csv", 2, 2, 0, 0), ("customers.csv", 4, 3, 1, 0)]
    versions = (
        "select city, strftime(valid_from, '%d'), strftime(valid_to, '%d') from core.customer_history "
        "where customer_id = '{}' order by valid_from"
    )
    assert changed.rows(versions.format(1)) == [("Rome", "01", "02"), ("Oslo", "02", "03"), ("Bonn", "03", None)]
    assert changed.rows(versions.format(2)) == [("Oslo", "02", None)]
    # The ordinals of both rows decided, not when they could be taken.
    positions = "select city, ltrim(position, '0') from core.customer_log where customer_id = '2' order by 1"
    assert changed.rows(positions) == [("Oslo", "2"), ("Rome", "1")]
    assert changed.rows("select known_at from core.customer_log where customer_id = '1' and city = 'Bonn'") == before

    # Once more: what stays refused is there once, and what was taken is no duplicate of itself.
    replay(changed, entries(changed))
    changed.sync()
    assert refused(changed) == [("customers.csv", 3, "cleaning", ("bad_operation",))]
    assert accounting(changed) == [("customer_20240102000000.csv", 2, 2, 0, 0), ("customers.csv", 4, 3, 1, 0)]


def fix(platform: Platform, chosen: list[Entry], **values: str) -> list[str]:
    return quarantine.fix(platform.warehouse, platform.bucket, platform.feeds, chosen, values)


def test_a_fixed_row_stands_where_it_stood_and_survives_a_rebuild(platform: Platform) -> None:
    platform.put("customers.csv", table("1,Rome,,2024-01-01,I,", "1,Oslo,soon,2024-01-02,U,", "1,Bonn,,2024-01-03,U,"))
    named = table('2,"Oslo, north",never', header="customer_id,city,signup_date")
    platform.put("customer_20240102000000.csv", named)
    platform.put(
        "plain.csv", table("3,Bern,never", header="customer_id,city,signup_date"), mtime="2024-01-05T06:00:00Z"
    )
    in_order = table("5,Bonn,", "4,Rome,", "4,Oslo,never", header="customer_id,city,signup_date")
    platform.put("customer_20240103000000.csv", in_order)
    receipt = table(*(f"9,{product},{price},1,2024-01-03 08:00:00" for product, price in zip("ABC", "1x3", strict=True)),
                    header="invoiceno,stockcode,unitprice,quantity,invoicedate")  # fmt: skip
    platform.put("receipt.csv", receipt, feed="online_retail")
    platform.load("online_retail")
    platform.sync()
    found = sorted(entries(platform, feed="customers"), key=lambda e: e.key)
    assert len(found) == 4
    keys = fix(platform, found, signup_date="2024-01-01")
    line = entries(platform, feed="online_retail")
    with pytest.raises(quarantine.QuarantineError, match="a line of another receipt with invoiceno '8'"):
        fix(platform, line, invoiceno="8", unitprice="2")
    keys += fix(platform, line, unitprice="2", invoiceno="9")
    platform.load("online_retail")
    platform.sync()
    assert refused(platform) == []
    lives = (
        "select customer_id, city, strftime(valid_from, '%d %H'), strftime(valid_to, '%d %H'), cast(signup_date as varchar) "
        "from core.customer_history order by 1, 3"
    )
    expected = [
        ("1", "Rome", "01 00", "02 00", None),
        ("1", "Oslo", "02 00", "03 00", "2024-01-01"),
        ("1", "Bonn", "03 00", None, None),
        ("2", "Oslo, north", "02 00", None, "2024-01-01"),
        ("3", "Bern", "05 06", None, "2024-01-01"),
        ("4", "Oslo", "03 00", None, "2024-01-01"),
        ("5", "Bonn", "03 00", None, None),
    ]
    lines = "select line, product_id, cast(unit_price as int) from core.pos_line where transaction_id = '9' order by 1"
    assert platform.rows(lives) == expected
    assert platform.rows(lines) == [(1, "A", 1), (2, "B", 2), (3, "C", 3)]
    # What was refused stays counted as such; what was landed in its place is accepted.
    fixed = {key.rsplit("/", 1)[-1] for key in keys}
    assert {(name, *counts) for name, *counts in accounting(platform)} == {
        ("customers.csv", 3, 2, 1, 0), ("customer_20240102000000.csv", 1, 0, 1, 0), ("plain.csv", 1, 0, 1, 0),
        ("customer_20240103000000.csv", 3, 2, 1, 0), ("receipt.csv", 3, 2, 1, 0),
        *((name, 1, 1, 0, 0) for name in fixed),
    }  # fmt: skip
    platform.build("--full-refresh")
    assert platform.rows(lives) == expected
    assert platform.rows(lines) == [(1, "A", 1), (2, "B", 2), (3, "C", 3)]


def test_a_fix_that_is_wrong_too_is_refused_again_and_can_be_fixed(platform: Platform) -> None:
    rows = table("1,Rome,,2024-01-01,I,", "1,Oslo,soon,,U,")
    platform.put("customers.csv", rows)
    platform.put("customer_20240102000000.csv", table("2,Rome,", "2,Oslo,soon", header="customer_id,city,signup_date"))
    platform.sync()
    fix(platform, entries(platform), signup_date="later")
    platform.sync()
    # A time that a row has to state is not made up for by the file's.
    reasons = [("bad_date:signup_date",), ("missing_event_time", "bad_date:signup_date")]
    assert [(row, stage, why) for _, row, stage, why in refused(platform)] == [(1, "cleaning", why) for why in reasons]
    of_named, of_timed = fix(platform, sorted(entries(platform), key=lambda e: e.key), signup_date="2020-01-31")

    def body(key: str) -> str:
        return str(platform.bucket.client.get_object(Bucket=platform.bucket.name, Key=key)["Body"].read().decode())

    assert body(of_named) == "customer_id,city,signup_date,_fixed_row\n2,Oslo,2020-01-31,2\n"
    assert body(of_timed) == "customer_id,city,signup_date,updated_at,op\n1,Oslo,2020-01-31,,U\n"


def test_what_cannot_be_fixed_by_columns_says_why_and_lands_nothing(platform: Platform) -> None:
    platform.put("customers.csv", table("1,Rome,soon,2024-01-01,I,", "2,Oslo"))
    platform.sync()
    in_reading, in_cleaning = sorted(entries(platform), key=lambda e: e.stage, reverse=True)
    before = len(list(platform.bucket.listed(platform.feeds["customers"])))
    with pytest.raises(quarantine.QuarantineError, match="no column 'town'; there are: customer_id, "):
        fix(platform, [in_cleaning], town="Rome")
    with pytest.raises(quarantine.QuarantineError, match=r"record 2 of .* was refused in reading"):
        fix(platform, [in_cleaning, in_reading], city="Rome")
    assert len(list(platform.bucket.listed(platform.feeds["customers"]))) == before


@pytest.mark.parametrize(("kind", "why"), [("partial", "a part of a row"), ("snapshot", "of a snapshot")])
def test_what_a_record_leaves_unsaid_cannot_be_fixed(platform: Platform, kind: str, why: str) -> None:
    platform.put("customers.csv", table("1,Rome,soon,2024-01-01,I,"))
    platform.sync()
    found = entries(platform)
    feeds = {"customers": replace(platform.feeds["customers"], kind=kind)}
    with pytest.raises(quarantine.QuarantineError, match=why):
        quarantine.fix(platform.warehouse, platform.bucket, feeds, found, {"signup_date": "2024-01-01"})
    assert entries(platform) == found


def test_records_refused_in_reading_are_read_again_after_the_declaration_changed(
    platform: Platform, tmp_path: Path
) -> None:
    strict = project_with(tmp_path, declared(("required: [customer_id]", "required: [customer_id, city]")))
    body = table("1,Ann", ",Nobody", "3", "4,Dan", header="customer_id,first_name")
    key = platform.put("customer_20240101000000.csv", body)
    Platform(platform.settings, platform.bucket, project=strict).load()
    platform.build(*CLEAN)
    missing = "missing_column:city"
    name = "customer_20240101000000.csv"
    assert refused(platform) == [
        (name, 1, "reading", (missing,)),
        (name, 2, "reading", (missing,)),
        (name, 3, "reading", (missing, "too_few_fields")),
        (name, 4, "reading", (missing,)),
    ]

    # One by itself, then the others.
    assert replay(platform, entries(platform, row=4)).read == 1
    assert [row for _, row, *_ in refused(platform)] == [1, 2, 3]
    tried = replay(platform, entries(platform, reason="missing_column"))
    assert (tried.cleaning, tried.read) == (0, 2)
    assert [(e.row, why) for e, why in tried.still_refused] == [(3, "too_few_fields")]
    platform.sync()
    assert accounting(platform) == [(name, 4, 2, 2, 0)]
    assert [entry[1:3] for entry in refused(platform)] == [(2, "cleaning"), (3, "reading")]
    log = "select customer_id, event_time::varchar, ltrim(position, '0') from core.customer_log order by 1"
    assert platform.rows(log) == [("1", "2024-01-01 00:00:00", "1"), ("4", "2024-01-01 00:00:00", "4")]

    # The object is known: a replay must not make it new, nor superseded by itself.
    assert platform.load().objects == 0
    assert platform.rows(
        f"select distinct status, event_time::varchar from staging.object_ledger where key = '{key}'"
    ) == [("loaded", "2024-01-01 00:00:00")]


def test_an_object_that_could_not_be_read_is_read_after_the_declaration_changed(
    platform: Platform, tmp_path: Path
) -> None:
    platform.put("export.txt", table("1,Rome,2020-01-31,2024-01-01,I,", "2", "3,Rome,,2024-01-01,Q,"))
    platform.load()
    platform.build(*CLEAN)
    assert refused(platform) == [("export.txt", 0, "reading", ("unknown_format",))]
    assert replay(platform, entries(platform)).still_refused[0][1] == "unknown_format"
    assert refused(platform) == [("export.txt", 0, "reading", ("unknown_format",))]

    only_csv = project_with(tmp_path, declared(("formats: [csv, json, parquet]", "formats: [csv]")))
    reader = Platform(platform.settings, platform.bucket, project=only_csv)
    assert replay(reader, entries(reader, row=0)).read == 2
    platform.sync()
    assert refused(platform) == [
        ("export.txt", 2, "reading", ("too_few_fields",)),
        ("export.txt", 3, "cleaning", ("bad_operation",)),
    ]
    assert accounting(platform) == [("export.txt", 3, 1, 2, 0)]
    assert platform.rows("select customer_id from core.customer") == [("1",)]


def test_a_version_that_comes_back_after_a_row_of_it_was_replayed_is_taken_whole(platform: Platform) -> None:
    name, header = "customer_20240101000000.csv", "customer_id,city,op"
    first, second = table("1,Rome,I", "2,Rome,Q", header=header), table("1,Oslo,I", header=header)
    platform.put(name, first)
    platform.load()
    platform.build(*CLEAN)
    replay(platform, entries(platform))
    platform.build(*CLEAN)
    platform.put(name, second)
    platform.load()
    platform.put(name, first)
    platform.load()
    platform.build(*CLEAN)
    assert refused(platform) == [(name, 2, "cleaning", ("bad_operation",))]
    platform.build()
    assert platform.rows("select customer_id, city from core.customer") == [("1", "Rome")]


def test_a_dismissed_refusal_leaves_the_register_and_stays_in_the_accounting(platform: Platform) -> None:
    platform.put("a.csv", table("1,Rome,,2024-01-01,Q,", "2,Rome,,2024-01-01,I,", "3,Rome,,2024-01-01,Q,", "4"))
    platform.load()
    platform.build(*CLEAN)
    assert [row for _, row, *_ in refused(platform)] == [1, 3, 4]
    quarantine.decide(platform.warehouse, entries(platform, row=1), "dismiss", "a test of theirs")
    quarantine.decide(platform.warehouse, entries(platform, row=4), "dismiss", "cut off")
    platform.sync()
    assert refused(platform) == [("a.csv", 3, "cleaning", ("bad_operation",))]
    assert accounting(platform) == [("a.csv", 4, 1, 3, 0)]
    decisions = "select _row, decision, reason from staging.quarantine_decisions order by 1"
    assert platform.rows(decisions) == [(1, "dismiss", "a test of theirs"), (4, "dismiss", "cut off")]
    assert platform.rows("select count(*) from staging.customers") == [(3,)]


def test_refusals_of_a_replaced_object_leave_the_register_and_none_stands_twice(platform: Platform) -> None:
    name, zipped = "customer_20240101000000.csv", "customer_20240102000000.csv"
    header = "customer_id,city,op"
    bad = table("1,Rome,Q", ",Rome,I", "3", "4,Rome,I", header=header)
    good = table("1,Rome,I", "2,Rome,I", "3,Rome,I", header=header)
    platform.put(name, bad)
    platform.put(zipped, bad)
    platform.load()
    platform.put(name, good)
    platform.put(zipped, b'"customer_id,city\n')  # cannot be read: replaces nothing
    platform.load()
    platform.build(*CLEAN)
    of_bad = [(1, "cleaning"), (2, "cleaning"), (3, "reading")]
    assert [(key, row, stage) for key, row, stage, _ in refused(platform)] == [
        (zipped, 0, "reading"),
        *((zipped, row, stage) for row, stage in of_bad),
    ]
    assert platform.rows(f"select received, accepted from clean.accounting where _etag = '{etag(good)}'") == [(3, 3)]

    platform.put(zipped, bad)
    platform.put(name, bad)
    platform.sync()
    assert [(key, row, stage) for key, row, stage, _ in refused(platform)] == [
        (key, row, stage) for key in (name, zipped) for row, stage in of_bad
    ]
    assert platform.rows("select customer_id from core.customer") == [("4",)]


def test_entries_are_filtered_by_feed_key_row_and_reason(platform: Platform) -> None:
    platform.put("a.csv", table("1,Rome,31/31/2020,2024-01-01,Q,", "2,Rome,,,I,", "3,x"))
    platform.put("sub/a.csv", table("1,Rome,,2024-01-01,Q,"))
    platform.put("ba.csv", table("1,Rome,,2024-01-01,Q,"))
    platform.put("a_csv", b"x")
    platform.load()
    platform.build(*CLEAN)
    folder = platform.bucket.folder(platform.feeds["customers"])

    def found(**choice: Any) -> list[tuple[str, int]]:
        return sorted((e.key.removeprefix(folder), e.row) for e in entries(platform, **choice))

    of_a = [("a.csv", 1), ("a.csv", 2), ("a.csv", 3)]
    assert found() == found(feed="customers") == sorted([*of_a, ("a_csv", 0), ("ba.csv", 1), ("sub/a.csv", 1)])
    assert found(feed="orders") == []
    assert found(key="a.csv") == [*of_a, ("sub/a.csv", 1)]
    assert found(key=f"{folder}a.csv") == of_a
    assert found(row=0) == [("a_csv", 0)]
    assert found(key="a.csv", row=1) == [("a.csv", 1), ("sub/a.csv", 1)]
    assert found(reason="bad_operation") == [("a.csv", 1), ("ba.csv", 1), ("sub/a.csv", 1)]
    assert found(reason="bad_date") == found(reason="bad_date:signup_date") == [("a.csv", 1)]
    assert found(reason="bad") == []
    assert found(reason="too_few_fields", key="a.csv") == [("a.csv", 3)]

    # Newest first, and no more than asked for.
    platform.put("later.csv", table("1,Rome,,2024-01-01,Q,"))
    platform.sync()
    with platform.warehouse.reading() as session:
        assert [e.key for e in quarantine.entries(session, Choice(), 1)] == [f"{folder}later.csv"]
