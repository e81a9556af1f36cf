"""What is served: what changed and nothing else, all of a generation or nothing, whatever dies and whatever is lost."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from c360_assets import serve
from c360_assets.duckdb_warehouse import DuckDBSession
from c360_assets.store import Store, StoreRefused
from tests.serving.conftest import PERSONAL, Gold, customer


def cities(gold: Gold) -> dict[str, str]:
    rows = gold.store.rows("select customer_id, doc from customers order by customer_id")
    return {row[0]: json.loads(row[1])["city"] for row in rows}


def test_what_changed_is_served_and_nothing_else(gold: Gold) -> None:
    gold.put("vw_customer_360", customer(1), customer(2), customer(3, email=None))
    assert gold.serve()["customers"] == (3, 0)
    assert gold.serve()["customers"] == (0, 0)
    gold.execute(
        "update gold.vw_customer_360 set city = 'Rome' where customer_id = 'C002'",
        "delete from gold.vw_customer_360 where customer_id = 'C001'",
    )
    gold.put("vw_customer_360", customer(4))
    gold.put("consumed_batches", ("fct_orders", "shop_order_log:20260102T000000-bbbb"))
    assert gold.serve()["customers"] == (2, 1)
    assert cities(gold) == {"C002": "Rome", "C003": "Ulm", "C004": "Ulm"}
    held = gold.store.served()
    assert held is not None and (held.generation, held.batch) == (3, "20260102T000000-bbbb")


def test_personal_columns_stand_apart_and_values_are_exact(gold: Gold) -> None:
    gold.put("vw_customer_360", customer(1))
    gold.serve()
    ((doc, personal, email),) = gold.store.rows("select doc, personal, email from customers")
    assert json.loads(personal) == {"email": "c1@example.org", "first_name": "Ann", "last_name": "Lee1"}
    assert json.loads(doc) == {
        "customer_id": "C001", "city": "Ulm", "gross_revenue": "12.5000", "count_orders": 1, "valid_from": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    assert email == "c1@example.org"


def test_of_a_batch_that_fails_nothing_is_served(gold: Gold, monkeypatch: pytest.MonkeyPatch) -> None:
    gold.put("vw_customer_360", customer(1))
    gold.serve()
    gold.execute("update gold.vw_customer_360 set city = 'Rome'")
    gold.put("daily_sales_summary", ("2026-01-01", "S", "EUR", "1.0000", "0.0000", "1.0000", 1))
    kept = serve._rows

    def broken(session: Any, sql: str) -> Any:
        if "daily_sales" in sql:
            raise OSError("the disk is full")
        return kept(session, sql)

    monkeypatch.setattr(serve, "_rows", broken)
    with pytest.raises(OSError, match="full"):
        gold.serve()
    assert cities(gold) == {"C001": "Ulm"}
    monkeypatch.setattr(serve, "_rows", kept)
    gold.serve()
    assert cities(gold) == {"C001": "Rome"}


def moved_and_served_until(gold: Gold, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """A customer is served, moves to Rome, and the run that serves this dies where the named function is called."""
    gold.put("vw_customer_360", customer(1))
    gold.serve()
    gold.execute("update gold.vw_customer_360 set city = 'Rome'")

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(owner, name, dies)
        with pytest.raises(KeyboardInterrupt):
            gold.serve()


def test_a_run_that_dies_after_the_store_has_it_is_finished_by_the_next(
    gold: Gold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gold took back meanwhile must not stay in the store."""
    moved_and_served_until(gold, monkeypatch, serve, "_take_place")
    assert cities(gold) == {"C001": "Rome"}
    gold.execute("update gold.vw_customer_360 set city = 'Ulm'")
    gold.serve()
    assert cities(gold) == {"C001": "Ulm"}


def test_what_a_run_left_that_died_before_the_store_had_it_is_not_taken_for_served(
    gold: Gold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the next one of another table."""
    moved_and_served_until(gold, monkeypatch, Store, "write")
    gold.serve("daily_sales")
    assert cities(gold) == {"C001": "Ulm"}
    assert gold.serve()["customers"] == (1, 0)
    assert cities(gold) == {"C001": "Rome"}


def test_between_two_tables_others_may_work_on_gold_and_open_the_file_anew(gold: Gold) -> None:
    gold.put("vw_customer_360", customer(1))
    gold.serve()
    warehouse, cities_moved_to = gold.warehouse, ["Rome"]

    def between() -> None:
        with warehouse.held("dbt"):
            pass
        with warehouse.writing("test") as session:
            while cities_moved_to:
                session.execute(f"update gold.vw_customer_360 set city = '{cities_moved_to.pop()}'")

    served = serve.sources(PERSONAL)
    with warehouse.kept("test"):
        counts = serve.serve(served, served, warehouse, gold.store, between=between)[2]
    assert counts["customers"] == (1, 0) and cities(gold) == {"C001": "Rome"}
    assert not [name for name in made(gold) if "__next" in name]


def made(gold: Gold) -> set[str]:
    """The tables of the warehouse."""
    with gold.warehouse.reading() as session:
        return session.tables()


def test_what_did_not_change_is_not_written_again_where_it_stands(gold: Gold, monkeypatch: pytest.MonkeyPatch) -> None:
    gold.put("vw_customer_360", customer(1))
    gold.put("daily_sales_summary", ("2026-01-01", "S", "EUR", "1.0000", "0.0000", "1.0000", 1))
    gold.serve()
    gold.execute("update gold.vw_customer_360 set city = 'Rome'")
    said: list[str] = []
    execute = DuckDBSession.execute
    monkeypatch.setattr(
        DuckDBSession, "execute", lambda self, sql, *bound: (said.append(sql), execute(self, sql, *bound))
    )
    gold.serve()
    placed = [sql for sql in said if "rename" in sql]
    assert placed == ["alter table serving.customers__next rename to customers"]
    assert not [name for name in made(gold) if "__next" in name]


def test_a_store_that_is_lost_or_another_is_filled_anew(gold: Gold) -> None:
    gold.put("vw_customer_360", customer(1), customer(2))
    gold.serve()
    gold.store.write(7, "from elsewhere", [])
    # Asked for one table, all are served: nothing of the other store is known.
    gold.put("daily_sales_summary", ("2026-01-01", "S", "EUR", "1.0000", "0.0000", "1.0000", 1))
    assert gold.serve("daily_sales")["customers"] == (2, 0)
    assert gold.serve("daily_sales") == {"daily_sales": (0, 0)}


def test_a_warehouse_that_was_put_back_takes_no_later_store_for_its_own(gold: Gold) -> None:
    """The store is one generation ahead, as after a death between the two; but it is of what was taken back since."""
    gold.put("vw_customer_360", customer(1))
    gold.serve()
    gold.execute("create table serving_before as select * from serving.customers")
    kept = "select * from serving.generation"
    gold.execute(f"create table generation_before as {kept}")
    gold.put("vw_customer_360", customer(9))
    gold.serve()
    gold.execute(
        "delete from gold.vw_customer_360 where customer_id = 'C009'",
        "create or replace table serving.customers as select * from serving_before",
        "create or replace table serving.generation as select * from generation_before",
    )
    gold.serve()
    assert list(cities(gold)) == ["C001"]


def test_a_store_from_before_generations_had_marks_is_filled_anew(gold: Gold) -> None:
    gold.put("vw_customer_360", customer(1))
    gold.serve()
    with gold.store._engine.begin() as connection:
        connection.exec_driver_sql("alter table served drop column mark")
    assert gold.store.served() is None
    assert gold.serve()["customers"] == (1, 0)


def test_a_table_whose_columns_change_is_served_anew(gold: Gold) -> None:
    gold.put("vw_customer_360", customer(1))
    gold.serve()
    gold.execute("alter table gold.vw_customer_360 add column segment varchar", "drop table gold.issue_counts")
    found = gold.serve()
    assert found["customers"] == (1, 0) and "issues" not in found


def test_a_store_of_another_layout_is_filled_anew(gold: Gold, monkeypatch: pytest.MonkeyPatch) -> None:
    gold.put("vw_customer_360", customer(1), customer(2))
    gold.serve()
    before = serve.sources

    def with_less_hidden(_: Any) -> list[serve.Source]:
        return before(("email",))

    monkeypatch.setattr(serve, "sources", with_less_hidden)
    assert gold.serve()["customers"] == (2, 0)
    assert [
        json.loads(row[0]) for row in gold.store.rows("select personal from customers where customer_id = 'C001'")
    ] == [{"email": "c1@example.org"}]


def test_readers_see_one_generation_while_another_is_written(gold: Gold) -> None:
    gold.put("vw_customer_360", *(customer(number) for number in range(500)))
    gold.serve()
    stop, seen, failed = threading.Event(), set(), []

    def read() -> None:
        store = Store(gold.settings.serving_url)
        try:
            while not stop.is_set():
                ((least, most),) = store.rows("select min(doc), max(doc) from (select substr(doc, position('city' in doc)) as doc from customers) as d"
                                              if store.url.get_backend_name() == "postgresql" else
                                              "select min(doc), max(doc) from (select substr(doc, instr(doc, 'city')) as doc from customers) as d")  # fmt: skip
                seen.add((least, most))
        except Exception as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for city in ("Rome", "Oslo", "Bern"):
        gold.execute(f"update gold.vw_customer_360 set city = '{city}'")
        gold.serve()
    stop.set()
    reader.join()
    assert failed == [] and seen
    assert all(least == most for least, most in seen)


def test_what_is_asked_within_a_snapshot_is_of_one_generation(gold: Gold) -> None:
    gold.put("vw_customer_360", customer(1))
    gold.serve()
    with gold.store.snapshot() as read:
        before = read.served()
        gold.execute("update gold.vw_customer_360 set city = 'Rome'")
        gold.serve()
        assert "Ulm" in read.rows("select doc from customers")[0][0] and read.served() == before
    assert cities(gold) == {"C001": "Rome"}


def test_a_store_that_cannot_be_reached_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    store = Store("postgresql+psycopg://c360:hidden@127.0.0.1:1/none")
    with pytest.raises(StoreRefused, match=r"c360:\*\*\*@127.0.0.1:1/none.*C360_SERVING_URL") as told:
        store.served()
    assert "hidden" not in str(told.value)


def test_what_was_deleted_is_found_nowhere(gold: Gold) -> None:
    """By a look at the rows, and at SQLite's bytes, its log included."""
    gold.put("vw_customer_360", customer(1), customer(11), customer(2))
    gold.serve()

    def found(text: str) -> dict[str, int]:
        return gold.store.found([text], lambda value: text in value and f"{text}1" not in value)

    assert found("C001") == {"customers": 1} and found("c1@example.org") == {"customers": 1}
    assert found("C%1") == found("C_01") == {}
    reader = Store(gold.settings.serving_url)
    with reader._connection():  # while anybody is there, SQLite's log stays
        gold.execute("delete from gold.vw_customer_360 where customer_id = 'C001'")
        gold.serve()
        gold.store.purge()
    assert found("C001") == found("c1@example.org") == {}
    left = b"".join(path.read_bytes() for path in gold.settings.home.glob("serving.sqlite*"))
    assert b"c1@example.org" not in left
    assert cities(gold) == {"C002": "Ulm", "C011": "Ulm"}
