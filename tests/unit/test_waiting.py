"""What the worker knows to be waiting, where messages come twice, in the wrong order, or never."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.feeds import Feed, load_feeds
from c360_assets.landing import Listed
from c360_assets.object_events import Arrival
from c360_assets.registers import prepare_tables
from c360_assets.settings import PROJECT
from c360_assets.waiting import ASK_ANYWAY, Waiting

AT = datetime(2026, 3, 1)


def version(name: str, etag: str = "e1", minutes: int = 0) -> Listed:
    return Listed(AT + timedelta(minutes=minutes), f"stream_data/clickstream/{name}", etag, 10)


class Queue:
    """What is told next, and what was deleted."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.deleted: list[str] = []

    def tell(self, listed: Listed, handle: str) -> None:
        self.arrivals.append(Arrival(listed, handle))

    def receive(self, seconds: int, most: int) -> list[Arrival]:
        told, self.arrivals = self.arrivals, []
        return told

    def done(self, arrivals: Iterable[Arrival]) -> None:
        self.deleted += [each.handle for each in arrivals]


class Landed:
    """A bucket that is only listed."""

    def __init__(self) -> None:
        self.there: list[Listed] = []

    def folder(self, feed: Feed) -> str:
        return f"stream_data/{feed.prefix}"

    def listed(self, feed: Feed) -> Iterator[Listed]:
        return (each for each in self.there if each.key.startswith(self.folder(feed)))


class Home:
    def __init__(self, path: Path, clock: Callable[[float], None]) -> None:
        feeds = load_feeds([PROJECT / "dbt" / "models" / "staging"])
        self.warehouse = DuckDBWarehouse(path / "w.duckdb")
        with self.warehouse.writing("test") as session:
            prepare_tables(session, [feeds["clickstream"]])
        self.queue, self.landed, self.said, self.pass_time = Queue(), Landed(), list[str](), clock
        parts: Any = (self.landed, self.warehouse, lambda: self.queue)
        self.waiting = Waiting({"clickstream": feeds["clickstream"]}, *parts, 100, 1 << 20, self.said.append)

    def load(self, *listed: Listed) -> None:
        with self.warehouse.writing("test") as session:
            for each in listed:
                session.execute(
                    "insert into staging.object_ledger (feed, key, etag, status, batch) "
                    "select 'clickstream', ?, ?, 'loaded', format('{:09d}', count(*)) from staging.object_ledger",
                    [each.key, each.etag],
                )

    def lap(self) -> list[Listed]:
        self.waiting.hear(wait=False)
        if self.waiting.turn() is None:
            return []
        plan, _ = self.waiting.batch("clickstream")
        self.load(*plan)
        self.waiting.done("clickstream", plan, 0.1)
        return plan

    def list_all(self) -> None:
        """Until a listing has begun and come to its end."""
        self.waiting.list_now_and_then()
        until = time.perf_counter() + 10
        while self.waiting._listing is not None:
            assert time.perf_counter() < until
            self.waiting.list_now_and_then()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    now = [0.0]

    def clock(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("c360_assets.waiting.time.monotonic", lambda: now[0])
    return Home(tmp_path, clock)


def test_a_message_that_comes_again_and_again_is_kept_once_and_deleted_by_its_last_handle(home: Home) -> None:
    for handle in ("first", "second", "third"):
        home.queue.tell(version("a"), handle)
        home.waiting.hear(wait=False)
    assert home.lap() == [version("a")]
    assert home.queue.deleted == ["third"]
    # After its lap it is one lap more, which finds nothing, and the message goes.
    home.queue.tell(version("a"), "fourth")
    assert home.lap() == [version("a")] and home.queue.deleted == ["third", "fourth"]
    assert home.lap() == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_versions_the_later_one_counts_in_whatever_order_they_are_told(
    home: Home, order: tuple[int, int]
) -> None:
    versions = [version("a", "e1"), version("a", "e2", minutes=1)]
    for number in order:
        home.queue.tell(versions[number], f"of {number}")
    assert home.lap() == [versions[1]]
    assert sorted(home.queue.deleted) == ["of 0", "of 1"]


def test_what_no_message_told_of_is_found_by_listing_and_what_the_ledger_has_is_not(home: Home) -> None:
    known, lost = version("known"), version("lost", minutes=1)
    home.load(known)
    home.landed.there = [known, lost]
    home.list_all()
    assert home.lap() == [lost]
    home.landed.there.append(version("later"))
    home.list_all()
    assert home.lap() == []
    home.pass_time(60.0)
    home.list_all()
    assert home.lap() == [version("later")]


def test_what_is_of_no_feed_is_deleted_and_makes_no_lap(home: Home) -> None:
    home.queue.tell(Listed(AT, "elsewhere/a", "e", 1), "strange")
    assert home.lap() == [] and home.queue.deleted == ["strange"]


def test_a_lap_that_failed_is_due_again_after_a_pause_and_its_message_stays(home: Home) -> None:
    home.queue.tell(version("a"), "first")
    home.waiting.hear(wait=False)
    assert home.waiting.failed("clickstream", [version("a")], 0.1) == 2.0
    assert home.waiting.due() == [] and home.waiting.is_again("clickstream") and home.queue.deleted == []
    home.pass_time(2.0)
    assert home.lap() == [version("a")] and home.queue.deleted == ["first"]
    assert not home.waiting.is_again("clickstream")


def test_what_a_failed_lap_loaded_is_tried_on_and_what_lands_meanwhile_is_loaded_with_it(home: Home) -> None:
    """An object that holds its feed up: the one that corrects it is the newest, behind as many as a batch may have."""
    many = [version(f"{n:03}", minutes=n) for n in range(100)]
    for each in many:
        home.queue.tell(each, each.key[-3:])
    home.waiting.hear(wait=False)
    plan, _ = home.waiting.batch("clickstream")
    home.load(*plan)
    home.waiting.failed("clickstream", plan, 0.1)
    assert len(home.queue.deleted) == len(plan) == 100
    home.pass_time(2.0)
    assert home.waiting.turn() == "clickstream" and home.waiting.batch("clickstream") == ([], None)
    home.waiting.failed("clickstream", [], 0.1)
    home.queue.tell(version("corrected", minutes=500), "corrected")
    home.waiting.hear(wait=False)
    home.pass_time(4.0)
    assert home.lap() == [version("corrected", minutes=500)]
    assert home.waiting.due() == [] and not home.waiting.is_again("clickstream")


def test_the_ledger_is_asked_only_about_what_it_is_not_known_to_have(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    reading = home.warehouse.reading
    monkeypatch.setattr(home.warehouse, "reading", lambda: (asked.append(1), reading())[1])

    def listed_again() -> int:
        home.pass_time(60.0)
        home.list_all()
        times, asked[:] = len(asked), []
        return times

    assert listed_again() == 0  # nothing is there
    home.load(version("known"))
    home.landed.there = [version("known"), version("new")]
    assert listed_again() == 1
    assert listed_again() == 0  # one is known, the other waits
    assert home.lap() == [version("new")]
    assert listed_again() == 1 and listed_again() == 0
    home.landed.there[0] = version("known", "e2", minutes=2)
    assert listed_again() == 1
    home.pass_time(ASK_ANYWAY)
    assert listed_again() == 1 and listed_again() == 0


def test_a_version_that_comes_back_after_another_is_found_by_listing(home: Home) -> None:
    """The message that told of the first one's return was lost."""
    first, second, again = version("a"), version("a", "e2", minutes=1), version("a", "e1", minutes=2)
    for each, is_told in ((first, False), (second, True), (again, False)):
        home.landed.there = [each]
        if is_told:
            home.queue.tell(each, "told")
        else:
            home.pass_time(60.0)
            home.list_all()
        assert home.lap() == [each]
        if each == first:  # and the ledger is asked once more, and has it
            home.pass_time(60.0)
            home.list_all()
