"""One key's life, why each version is there, and what a run would do: over the real tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from c360_assets import entities, history, plan
from c360_assets.landing import Bucket
from c360_assets.settings import PROJECT
from tests.parts import Platform, lacking, settings_at

CUSTOMER = entities.declared(PROJECT / "dbt")["customer"]
HEADER = "customer_id,city,email,updated_at,op,source_position\n"
FIRST = """\
C1,Rome,,2024-01-01,,
C1,Bonn,,2024-05-01,,
C2,Oslo,,2024-01-02,,
C2,,,2024-06-01,D,
C4,Lima,,2024-02-01,,
"""
LATE = """\
C1,Oslo,,2024-03-01,,
C1,Bonn,,2024-06-01,,
C2,Oslo,,2024-08-01,,
C3,Paris,,2024-03-02,,1
C3,Nice,,2024-03-02,,2
C3,Metz,,2024-03-02,,2
C4,,,2024-04-01,D,
C5,,,2024-04-01,D,
C1,Turin,,never,,
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, bucket_of_module: Bucket) -> Platform:
    built = Platform(settings_at(tmp_path_factory.mktemp("life")), bucket_of_module).begin()
    built.put("a.csv", (HEADER + FIRST).encode())
    built.put("copy.csv", (HEADER + FIRST.splitlines()[0] + "\n").encode())
    built.sync()
    built.prepare_plans()
    return built


@pytest.fixture(scope="module")
def later(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The same home after another file, in a copy of the warehouse."""
    folder = tmp_path_factory.mktemp("later")
    copy = Platform(replace(platform.settings, home=folder), platform.bucket)
    with platform.warehouse.copied(folder) as copy.warehouse:
        # On Snowflake the copy is a database of another name, in which plans are made as well.
        reached = replace(copy.settings.snowflake, database=copy.warehouse.database)
        copy.settings = replace(copy.settings, snowflake=reached)
        copy.put("b.csv", (HEADER + LATE).encode())
        copy.sync()
        copy.prepare_plans()
        yield copy


def line(span: history.Span) -> tuple[str, str | None, str, str]:
    until = span.valid_to.date().isoformat() if span.valid_to else None
    return span.valid_from.date().isoformat(), until, span.change, span.changes


def test_a_life_is_a_time_line_with_what_changed_and_where_nothing_was(later: Platform) -> None:
    with later.warehouse.reading() as session:
        assert [line(s) for s in history.life(session, CUSTOMER, ["C1"], None)] == [
            ("2024-01-01", "2024-03-01", "insert", "city: Rome"),
            ("2024-03-01", "2024-05-01", "update", "city: Rome to Oslo"),
            ("2024-05-01", None, "update", "city: Oslo to Bonn"),
        ]
        spans = history.life(session, CUSTOMER, ["C2"], None)
        assert [line(s) for s in spans] == [
            ("2024-01-02", "2024-06-01", "insert", "city: Oslo"),
            ("2024-06-01", "2024-08-01", "deleted", ""),
            ("2024-08-01", None, "insert", "city: Oslo"),
        ]
        held = history.at(spans, datetime(2024, 6, 1))
        assert held is not None and held.change == "deleted"
        assert history.at(spans, datetime(2024, 1, 1)) is None
        assert [line(s)[1:3] for s in history.life(session, CUSTOMER, ["C4"], None)] == [
            ("2024-04-01", "insert"), (None, "deleted"),
        ]  # fmt: skip


@lacking("table functions")
def test_what_was_believed_stays_known(platform: Platform, later: Platform) -> None:
    with later.warehouse.reading() as session:
        ((known_at,),) = session.rows("select min(loaded_at) from staging.object_ledger where key like '%/a.csv'")
        believed = history.life(session, CUSTOMER, ["C1"], known_at)
        before = history.life(session, CUSTOMER, ["C1"], datetime(2020, 1, 1))
        held = session.rows(
            f"select city from core.customer_as_of(timestamp '2024-04-01', timestamp '{known_at}') where customer_id = 'C1'"
        )
    with platform.warehouse.reading() as session:
        assert believed == history.life(session, CUSTOMER, ["C1"], None)
    assert before == []
    assert held == [("Rome",)]


def test_every_event_is_explained(later: Platform) -> None:
    with later.warehouse.reading() as session:
        told = {
            (key, row["event_time"] and row["event_time"].date().isoformat()[5:], row["effect"]): row["notes"]
            for key in ("C1", "C2", "C3", "C4", "C5")
            for row in history.explain(session, CUSTOMER, [key])
        }
        with pytest.raises(history.NoSuchKey, match="customer_id 'C9'"):
            history.explain(session, CUSTOMER, ["C9"])
    assert told["C1", "01-01", "opened a version"] == "city: Rome; stated 2 times, also by copy.csv row 1"
    assert told["C1", "03-01", "opened a version"].startswith("city: Rome to Oslo; came late, ")
    assert told["C1", "06-01", "no new version"] == "says what held already"
    assert told["C1", None, "refused"].startswith("bad_event_time: {")
    assert told["C2", "06-01", "ended the version"] == ""
    assert told["C2", "08-01", "opened a version"] == "city: Oslo"
    assert told["C5", "04-01", "no effect"] == "there was nothing to delete"
    lost = [notes for (key, _, effect), notes in told.items() if key == "C3" and effect == "suppressed"]
    assert len(told) == 13 and len(lost) == 1  # two lost at one instant, under one name here


def test_the_reason_why_an_event_lost_is_told(later: Platform) -> None:
    with later.warehouse.reading() as session:
        rows = history.explain(session, CUSTOMER, ["C3"])
    assert sorted(r["notes"] for r in rows if r["effect"] == "suppressed") == [
        "another event of the same instant and position beats it by its content; the source does not order them",
        "another event of the same instant comes after it by its position",
    ]


def test_a_plan_names_what_is_new_changed_spliced_deleted_and_refused(platform: Platform, later: Platform) -> None:
    found = {
        (e.of, e.effect): (e.count, e.examples)
        for e in plan.effects(platform.warehouse, later.warehouse, [CUSTOMER])
    }  # fmt: skip
    (refused, (example,)) = found.pop(("rows", "quarantined"))
    assert refused == 1 and example.startswith('["bad_event_time"] ') and example.endswith("b.csv 9")
    assert found == {
        ("objects", "loaded"): (1, ("customers stream_data/customers/b.csv",)),
        ("customer", "new"): (1, ("C3",)),
        ("customer", "back after a delete"): (1, ("C2",)),
        ("customer", "deleted"): (1, ("C4",)),
        ("customer", "spliced"): (1, ("C1",)),
    }
    assert plan.effects(later.warehouse, later.warehouse, [CUSTOMER]) == []


# ------------------------------------------------------------------------------------------------------ by the commands


def test_the_command_customer_prints_a_life_and_a_day_of_it(later: Platform, s3_endpoint: str) -> None:
    told = later.command(s3_endpoint, "customer", "C1")
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert told.returncode == 0 and lines[0] == "from to change what"
    assert any("2024-03-01" in line and line.endswith("update city: Rome to Oslo") for line in lines)
    told = later.command(s3_endpoint, "customer", "C1", "--as-of", "2024-04-01", "--format", "json")
    (held,) = json.loads(told.stdout)
    assert (held["city"], held["change"], held["valid_to"][:10]) == ("Oslo", "update", "2024-05-01")
    told = later.command(s3_endpoint, "customer", "C9", "--as-of", "2024-04-01")
    assert (told.returncode, told.stdout) == (1, "")
    assert "no customer C9 at 2024-04-01" in told.stderr


@lacking("table functions")
def test_the_command_customer_prints_what_was_believed(platform: Platform, later: Platform, s3_endpoint: str) -> None:
    ((known_at,),) = platform.rows("select cast(max(loaded_at) as varchar) from staging.object_ledger")
    asked = ("customer", "C1", "--as-of", "2024-04-01", "--known-at", known_at, "--format", "json")
    (held,) = json.loads(later.command(s3_endpoint, *asked).stdout)
    assert held["city"] == "Rome"


def test_the_command_explain_tells_each_event_with_its_object_and_row(later: Platform, s3_endpoint: str) -> None:
    told = json.loads(later.command(s3_endpoint, "explain", "C1", "--format", "json").stdout)
    opened = [(row["object"].split("/")[-1], row["row"]) for row in told if row["effect"] == "opened a version"]
    assert opened == [("a.csv", 1), ("b.csv", 1), ("a.csv", 2)]
    missing = later.command(s3_endpoint, "explain", "C9")
    assert (missing.returncode, missing.stdout) == (1, "") and "customer_id 'C9'" in missing.stderr


def test_the_command_sync_plan_says_what_a_run_would_do_and_does_nothing(later: Platform, s3_endpoint: str) -> None:
    later.put("c.csv", (HEADER + "C1,Linz,,2024-09-01,,\nC6,Graz,,2024-09-01,,\nC7,Graz,,soon,,\n").encode())
    before = later.digest()
    told = later.command(s3_endpoint, "sync", "--plan", "--format", "json")
    assert told.returncode == 0, told.stderr
    assert {(row["of"], row["effect"]): row["count"] for row in json.loads(told.stdout)} == {
        ("objects", "loaded"): 1,
        ("rows", "quarantined"): 1,
        ("customer", "new"): 1,
        ("customer", "changed"): 1,
    }
    assert later.digest() == before
    assert later.rows("select count(*) from staging.object_ledger where key like '%/c.csv'") == [(0,)]
