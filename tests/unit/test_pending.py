"""Which feeds count as having something new, and which tables are made of which feed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from c360_assets import pending, registers
from c360_assets.feeds import load_feeds
from c360_assets.pending import Lineage
from c360_assets.settings import PROJECT, Settings
from c360_assets.warehouse import Session, Warehouse, open_warehouse

FEEDS = {
    name: feed
    for name, feed in load_feeds([PROJECT / "dbt" / "models" / "staging"]).items()
    if name in ("customers", "products", "pos")
}


def node(name: str, *parents: str, **meta: Any) -> dict[str, Any]:
    return {
        "resource_type": "model",
        "schema": "core",
        "alias": name,
        "config": {"meta": meta},
        "depends_on": {"nodes": list(parents)},
    }


MANIFEST = {
    "sources": {f"source.c360.staging.{name}": {"name": name} for name in (*FEEDS, "object_ledger")},
    "nodes": {
        "model.c360.ledger": node("ledger", "source.c360.staging.object_ledger"),
        "model.c360.rows": node("rows", "source.c360.staging.object_ledger", reads_feeds="customer"),
        "model.c360.lines": node("lines", "source.c360.staging.pos", "model.c360.sums", waits_for=["sums"]),
        "model.c360.products": node("products", "source.c360.staging.products"),
        "model.c360.sums": node("sums", reads_feeds="all"),
        "model.c360.facts": node("facts", "model.c360.rows", "model.c360.lines"),
        "test.c360.some": {"resource_type": "test"},
    },
}
LINEAGE = Lineage.read(MANIFEST, "p1", FEEDS)


def test_a_table_is_made_of_what_it_reads_and_of_what_that_is_made_of() -> None:
    assert {table: set(feeds) for table, feeds in LINEAGE.feeds_of.items()} == {
        "core.ledger": set(),
        "core.rows": {"customers"},
        "core.lines": {"pos"},
        "core.products": {"products"},
        "core.sums": {"customers", "pos", "products"},
        "core.facts": {"customers", "pos"},
    }


def test_what_is_made_of_the_ledger_alone_is_made_whatever_is_new() -> None:
    assert LINEAGE.made_of({"products"}) == {"core.ledger", "core.products", "core.sums"}
    assert LINEAGE.made_of(set()) == set()


def test_a_feed_is_served_when_nothing_that_is_made_of_it_was_left_out() -> None:
    everything = set(LINEAGE.feeds_of)
    assert LINEAGE.served_by(everything) == {"customers", "pos", "products"}
    assert LINEAGE.served_by(everything - {"core.facts"}) == {"products"}
    assert LINEAGE.served_by(LINEAGE.made_of({"pos"})) == {"pos"}


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    made = open_warehouse(Settings.load({"C360_HOME": str(tmp_path)}))
    with made.writing("test") as session:
        registers.prepare_tables(session, list(FEEDS.values()))
        pending.prepare_marks(session)
        session.execute("create schema core")
        for table in LINEAGE.feeds_of:
            session.execute(f"create table {table} (n int)")
    return made


def ledger(session: Session, feed: str, batch: str) -> None:
    session.execute("insert into staging.object_ledger (feed, key, etag, batch) values (?, 'k', 'e', ?)", [feed, batch])


def unbuilt(warehouse: Warehouse, lineage: Lineage = LINEAGE) -> set[str]:
    with warehouse.reading() as session:
        return pending.unbuilt_feeds(session, lineage, FEEDS.keys())


def build(warehouse: Warehouse) -> None:
    with warehouse.writing("test") as session:
        newest = pending.newest_batches(session)
        pending.note_built(session, LINEAGE.project, {feed: newest.get(feed, "") for feed in FEEDS})


def test_nothing_is_built_at_first_and_all_of_it_after_a_build(warehouse: Warehouse) -> None:
    assert unbuilt(warehouse) == set(FEEDS)
    build(warehouse)
    assert unbuilt(warehouse) == set()


def test_a_load_and_a_decision_are_something_new_of_their_feed(warehouse: Warehouse) -> None:
    build(warehouse)
    with warehouse.writing("test") as session:
        ledger(session, "pos", "b1")
    assert unbuilt(warehouse) == {"pos"}
    build(warehouse)
    with warehouse.writing("test") as session:
        session.execute("insert into staging.quarantine_decisions (feed, batch) values ('products', 'b2')")
    assert unbuilt(warehouse) == {"products"}


def test_what_a_load_brings_while_a_build_is_at_work_is_new_after_it(warehouse: Warehouse) -> None:
    with warehouse.writing("test") as session:
        ledger(session, "pos", "b1")
        newest = pending.newest_batches(session)
        ledger(session, "pos", "b2")
        pending.note_built(session, LINEAGE.project, {feed: newest.get(feed, "") for feed in FEEDS})
    assert unbuilt(warehouse) == {"pos"}


def test_another_state_of_the_project_makes_everything_new(warehouse: Warehouse) -> None:
    build(warehouse)
    assert unbuilt(warehouse, Lineage.read(MANIFEST, "p2", FEEDS)) == set(FEEDS)


def test_a_failed_build_is_to_be_done_again(warehouse: Warehouse) -> None:
    build(warehouse)
    with warehouse.writing("test") as session:
        pending.forget_built(session, LINEAGE.feeds_behind({"core.rows"}))
    assert unbuilt(warehouse) == {"customers"}


@pytest.mark.parametrize(("table", "feeds"), [("core.facts", {"customers", "pos"}), ("core.ledger", set(FEEDS))])
def test_a_table_that_is_gone_is_made_again(warehouse: Warehouse, table: str, feeds: set[str]) -> None:
    build(warehouse)
    with warehouse.writing("test") as session:
        session.execute(f"drop table {table}")
    assert unbuilt(warehouse) == feeds


def test_a_rebuild_that_broke_off_leaves_everything_to_be_done(warehouse: Warehouse) -> None:
    build(warehouse)
    with warehouse.writing("test") as session:
        pending.note_rebuild(session)
    assert unbuilt(warehouse) == set(FEEDS)
    with warehouse.writing("test") as session:
        pending.note_rebuilt(session)
    assert unbuilt(warehouse) == set()
