"""A warehouse whose gold is written by hand, the store that is served of it, and PostgreSQL where it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from c360_assets import serve
from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.settings import Settings
from c360_assets.store import Change, Store
from c360_assets.warehouse import insert, open_warehouse
from tests.parts import settings_at

TABLES = {
    "consumed_batches": "model varchar, batch varchar",
    "vw_customer_360": "customer_id varchar, first_name varchar, last_name varchar, email varchar, city varchar, gross_revenue decimal(38, 4), count_orders bigint, valid_from timestamp",
    "dim_customer": "customer_key varchar, customer_id varchar, first_name varchar, last_name varchar, email varchar, city varchar, valid_from timestamp, valid_to timestamp",
    "vw_customer_timeline": "customer_id varchar, event_time timestamp, op varchar, nth bigint, content varchar, position varchar, known_at timestamp, email varchar, city varchar",
    "vw_order_analytics": "source varchar, order_id varchar, customer_id varchar, ordered_at timestamp, amount decimal(38, 4), is_sale boolean",
    "vw_product_analytics": "product_id varchar, currency varchar, units_sold decimal(38, 4)",
    "daily_sales_summary": "sales_date date, store_id varchar, currency varchar, net_revenue decimal(38, 4), refunds decimal(38, 4), units_sold decimal(38, 4), count_transactions bigint",
    "issue_counts": "issue varchar, severity varchar, subject varchar, count_issues bigint",
    "vw_customer_moments": "customer_id varchar, happened_at timestamp, kind varchar, which varchar, state varchar, currency varchar, amount decimal(38, 4)",
    "anomalies": "sales_date date, store_id varchar, currency varchar, actual decimal(38, 4), expected decimal(38, 4), score double, direction varchar",
    "vw_stock": "store_id varchar, product_id varchar, product_name varchar, category_name varchar, stock decimal(38, 4), units_short decimal(38, 4), is_below_reorder_point boolean",
    "segment_counts": "as_of_day date, currency varchar, segment varchar, count_customers bigint, count_purchases bigint, net_revenue decimal(38, 4)",
    "segment_move_counts": "currency varchar, segment_before varchar, segment varchar, count_customers bigint",
    "cohort_retention": "cohort_month date, months_since integer, count_customers bigint, count_active bigint, retention double",
    "top_customers": "currency varchar, revenue_rank bigint, customer_id varchar, first_name varchar, last_name varchar, email varchar, net_revenue decimal(38, 4)",
    "vw_real_time": "happened_minute timestamp, event_type varchar, count_events bigint, count_customers bigint, count_sessions bigint, count_purchases bigint, revenue decimal(38, 4)",
    "feed_days": "feed varchar, loaded_on date, count_objects bigint, received bigint, accepted bigint, quarantined bigint, duplicates bigint, last_loaded_at timestamp",
}
PERSONAL = ("email", "first_name", "last_name")


@dataclass
class Gold:
    """Gold in a home of its own, and what is served of it."""

    settings: Settings
    store: Store

    @property
    def warehouse(self) -> DuckDBWarehouse:
        warehouse = open_warehouse(self.settings)
        assert isinstance(warehouse, DuckDBWarehouse)
        return warehouse

    def execute(self, *statements: str) -> None:
        with self.warehouse.writing("test") as session:
            for statement in statements:
                session.execute(statement)

    def put(self, table: str, *rows: tuple[Any, ...]) -> None:
        with self.warehouse.writing("test") as session:
            columns = dict.fromkeys(column.split()[0] for column in TABLES[table].split(", ") if " " in column)
            insert(session, f"gold.{table}", dict.fromkeys(columns, ""), list(rows))

    def serve(self, *names: str) -> dict[str, tuple[int, int]]:
        """{table: rows brought and taken away}"""
        served = serve.sources(PERSONAL)
        chosen = [each for each in served if not names or each.shape.name in names]
        checks = [{"asset": "core/customer", "name": "one_row_per_key", "status": "failed", "at": datetime(2026, 1, 1)}]
        took = [
            {"feed": "clickstream", "stage": "gold", "batches": 3, "objects": 4, "p50": 0.4, "p95": 0.9, "p99": 1.5}
        ]
        beside = [Change(serve.CHECKS, checks, anew=True), Change(serve.STAGES, took, anew=True)]
        counts = dict(serve.serve(served, chosen, self.warehouse, self.store, beside)[2])
        assert counts.pop("checks") == counts.pop("stage_seconds") == (1, 0)
        return counts


def customer(number: int, city: str = "Ulm", email: str | None = "") -> tuple[Any, ...]:
    mail = f"c{number}@example.org" if email == "" else email
    return (f"C{number:03}", "Ann", f"Lee{number}", mail, city, "12.5000", 1, datetime(2026, 1, 1))


@pytest.fixture(params=["sqlite", "postgresql"])
def gold(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gold]:
    settings = settings_at(tmp_path / "home")
    if request.param == "postgresql":
        settings = Settings(**(vars(settings) | {"serving": request.getfixturevalue("postgres_url")}))
    settings.home.mkdir(parents=True)
    gold = Gold(settings, Store(settings.serving_url))
    gold.execute("create schema gold", *(f"create table gold.{name} ({columns})" for name, columns in TABLES.items()))
    gold.put("consumed_batches", ("dim_customer", "20260101T000000-aaaa"))
    yield gold
    gold.store.close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a PostgreSQL server that is made for the tests."""
    initdb = shutil.which("initdb") or next(
        (str(p) for p in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None
    )
    if initdb is None:
        pytest.skip("PostgreSQL is not installed: the store was not tried on it")
    pytest.importorskip(
        "psycopg", reason="psycopg is not installed (extra postgres): the store was not tried on PostgreSQL"
    )
    folder = tmp_path_factory.mktemp("postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The server refuses to run as root.
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.parents):
            if path == Path("/tmp"):
                break
            path.chmod(path.stat().st_mode | 0o055)
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    subprocess.run(
        [initdb, "-D", data, "-U", "c360", "--auth", "trust", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8"],
        check=True, capture_output=True, cwd=folder, **user,
    )  # fmt: skip
    server = subprocess.Popen(
        [Path(initdb).with_name("postgres"), "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1",
         "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"],
        cwd=folder, stderr=subprocess.DEVNULL, **user,
    )  # fmt: skip
    try:
        _until_it_answers(port, server)
        yield port
    finally:
        server.send_signal(signal.SIGINT)  # waits for no client
        server.wait(20)


def _until_it_answers(port: int, server: subprocess.Popen[bytes]) -> None:
    import time

    import psycopg

    for _ in range(200):
        assert server.poll() is None, "PostgreSQL ended at once"
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="c360", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("PostgreSQL does not answer")


@pytest.fixture
def postgres_url(postgres: int, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    import psycopg

    name = f"t{abs(hash(request.node.nodeid))}"
    with psycopg.connect(
        host="127.0.0.1", port=postgres, user="c360", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"create database {name}")
    return f"postgresql+psycopg://c360@127.0.0.1:{postgres}/{name}"
