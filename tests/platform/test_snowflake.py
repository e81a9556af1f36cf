"""The whole graph on fakesnow, over the real Snowflake connector, dagster-snowflake and dbt-snowflake.

fakesnow is DuckDB underneath: equal digests prove the form of the SQL, not Snowflake's arithmetic.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from typing import Any

import dagster as dg
import sqlglot
from sqlglot import exp

from c360_assets import automation, entities, plan
from c360_assets.definitions import build_defs
from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from c360_assets.snowflake.warehouse import plan_database
from tests.engine.streams import Stage, assert_equals_truth
from tests.engine.test_streams import MODELS, cut, events_of
from tests.parts import Platform, on_both, on_duckdb, without_shop
from tests.platform.test_history import FIRST, HEADER, LATE
from tests.platform.test_till import EVERY_LINE, EVERY_SHAPE, flat, item, put, receipt, sales
from tests.proxy import Between, between

pytestmark = on_duckdb

# A truncate, so that something follows from what is not there.
CHANGE = "\n".join(
    json.dumps({"before": None, "after": after, "op": op, "ts_ms": at, "source": {"ts_ms": at, "lsn": at}})
    for op, after, at in (("c", {"customer_id": "9", "city": "Faro"}, 1704067200000), ("t", None, 1704153600000))
).encode()
BROKEN = b"""customer_id,first_name,city,updated_at,op
1,Ada,Rome,2024-01-01,I
2,Bob,Oslo,2024-01-01,I
customer_id,first_name,city,updated_at,op
1,Ada,Bonn,2024-01-03,U
1,Ada,Rome,2024-01-01,I
 ,Eve,Oslo,never,X
2,Bob,Oslo,2024-01-04,D
"""


@on_both
def test_streams_on_snowflake_are_what_the_oracle_says_and_what_duckdb_has(
    on_snowflake: Settings, settings: Settings, bucket: Bucket
) -> None:
    events = events_of(21, 300)
    digests = []
    for settings_of in (on_snowflake, settings):
        chance = random.Random(4)
        stage = Stage(Platform(settings_of, bucket))
        for number, objects in enumerate(cut(events, chance, 3)):
            laid = stage.lay(objects)
            stage.platform.build(*MODELS)
            if number == 1:
                stage.lay([chance.sample(events, 40)], replacing=laid[0])
        stage.platform.build()
        assert_equals_truth(stage.platform, stage.truth())
        digests.append(stage.platform.digest())
    assert digests[0] == digests[1]


@on_both
def test_the_whole_graph_runs_in_dagster_from_s3_to_core(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, fakesnow: int
) -> None:
    on_duckdb = Platform(settings, bucket)
    on_duckdb.put("export.csv", BROKEN)
    on_duckdb.put("whole.csv.gz", b"\x1f\x8b broken")
    on_duckdb.put("d.json", CHANGE, "customers_debezium")
    put(on_duckdb, "r", receipt("t1", item("p1", 4)))
    for feed in ("customers", "customers_debezium", "pos"):
        on_duckdb.load(feed)
    on_duckdb.build()
    with between(fakesnow) as network:
        reached = replace(on_snowflake.snowflake, port=network.port)
        runs_whole(replace(on_snowflake, snowflake=reached, dbt_project=without_shop()), on_duckdb, network)


def runs_whole(on_snowflake: Settings, on_duckdb: Platform, network: Between) -> None:
    bucket = on_duckdb.bucket
    platform = Platform(on_snowflake, bucket)
    # There are no policies here; that there is a list of what is masked makes dbt tag it.
    with platform.warehouse.writing("test") as session:
        session.execute("create schema governance")
        session.execute("create view governance.personal_columns as select 1 as one")
    with dg.instance_for_test() as instance:
        result = (
            build_defs(replace(on_snowflake, batch_objects=1), bucket=lambda: bucket)
            .resolve_job_def(automation.SYNC)
            .execute_in_process(instance=instance, raise_on_error=False)
        )
    assert result.success
    failed = {c.check_name for c in result.get_asset_check_evaluations() if not c.passed}
    assert failed == {"columns_as_declared", "objects_could_be_read", "distinct_customer_id"}
    assert platform.digest() == on_duckdb.digest()
    accounting = "select feed, _key, _etag, unit, received, accepted, quarantined, duplicates from clean.accounting order by _key"
    assert [tuple(map(str, row)) for row in platform.rows(accounting)] == [
        tuple(map(str, row)) for row in on_duckdb.rows(accounting)
    ]
    refused = "select _key, _row, stage, reasons from clean.quarantine order by _key, _row"
    assert platform.rows(refused) == on_duckdb.rows(refused)
    assert len(platform.rows(refused)) == 3
    statuses = dict(platform.rows("select key, status from staging.object_ledger"))
    assert sorted(statuses.values()) == ["loaded", "loaded", "loaded", "unreadable"]
    assert_dml_alone(network)
    assert_tagged(network, platform)
    # What the connector is told of time-outs it tells at login: dbt's too.
    told = [login["CLIENT_ENVIRONMENT"] for login in network.logins]
    assert "dbt" in {each["APPLICATION"] for each in told}
    assert {(each["LOGIN_TIMEOUT"], each["NETWORK_TIMEOUT"]) for each in told} == {(60, 300)}


def assert_dml_alone(network: Between) -> None:
    """Between begin and commit: DDL would commit the half of it. Every materialization has had something to write."""
    written = set()
    for statements in network.sessions.values():
        inside = False
        for sql in statements:
            tree: Any = sqlglot.parse_one(sql, dialect="snowflake")
            if isinstance(tree, exp.Transaction | exp.Commit | exp.Rollback):
                inside = isinstance(tree, exp.Transaction)
            elif inside:
                assert isinstance(tree, exp.DML | exp.Copy | exp.Query), sql
                if isinstance(tree, exp.Insert):
                    written.add(tree.find(exp.Table).name.lower())
    for_each = {"by_batch": "customer_rows", "absences": "customer_absences", "scd2": "customer_log",
                "latest": "pos_line_log", "by_change": "daily_sales_summary", "a load": "object_ledger"}  # fmt: skip
    assert {kind for kind, table in for_each.items() if table not in written} == set()


def assert_tagged(network: Between, platform: Platform) -> None:
    """Each column about a person, before its table has a row."""
    columns = {f"{table}.{column}" for table, column, _ in entities.personal_columns(platform.project)}
    tagged: set[str] = set()
    tagging = r"alter table \w+\.(\w+\.\w+) modify column (\w+) set tag \w+\.governance\.personal = "
    for sql in (" ".join(statement.split()).lower() for statement in network.statements):
        if found := re.search(tagging, sql):
            tagged.add(".".join(found.groups()))
        elif found := re.search(r"insert into \w+\.(\w+\.\w+) ", sql):
            missing = {c for c in columns if c.rsplit(".", 1)[0] == found.group(1)} - tagged
            assert missing == set(), f"{found.group(1)} has rows before {missing} are tagged"
    assert tagged == columns and tagged


@on_both
def test_a_plan_is_made_on_clones_and_changes_nothing(on_snowflake: Settings, bucket: Bucket, s3_endpoint: str) -> None:
    """As on DuckDB, in test_history."""
    platform = Platform(on_snowflake, bucket)
    platform.put("a.csv", (HEADER + FIRST).encode())
    platform.sync()
    before = platform.digest()
    platform.put("b.csv", (HEADER + LATE).encode())
    database = plan_database(on_snowflake.snowflake)
    platform.prepare_plans()
    with plan.rehearsal(on_snowflake, platform.warehouse, s3_endpoint) as settings:
        copy = Platform(settings, bucket)
        copy.sync()
        entity = entities.find_entity(copy.project, "customer")
        found = {(e.of, e.effect): e.count for e in plan.effects(platform.warehouse, copy.warehouse, [entity])}
    assert found == {
        ("objects", "loaded"): 1,
        ("rows", "quarantined"): 1,
        ("customer", "new"): 1,
        ("customer", "back after a delete"): 1,
        ("customer", "deleted"): 1,
        ("customer", "spliced"): 1,
    }
    assert platform.digest() == before
    with platform.warehouse.reading() as session:
        left = session.rows(
            f"select count(*) from {database}.information_schema.tables where table_type = 'BASE TABLE'"
        )
    assert left == [(0,)]


@on_both
def test_till_lines_come_out_as_on_duckdb(on_snowflake: Settings, settings: Settings, bucket: Bucket) -> None:
    """Every shape of receipt and line, then corrections and a replaced object."""
    tables = (
        "select store_id, transaction_id, line, kind, product_id, quantity, unit_price, amount, currency, customer_id, "
        "refund_of, cast(sold_at as varchar), cast(sales_date as varchar), _key from core.pos_line order by 1, 2, 3",
        "select _key, _row, line, product_id, reasons from clean.retail_pos_rejected order by 1, 2, 3 nulls first",
        "select feed, _key, _etag, unit, received, accepted, quarantined, duplicates from clean.accounting order by 2, 3, 4",
        "select store_id, transaction_id, line, amount, _key, winner_key from core.pos_line_replaced order by 1, 2, 3",
    )
    found = []
    for settings_of in (on_snowflake, settings):
        # A bucket each: what is there already is not new.
        own = Bucket(bucket.client, f"{bucket.name}-{len(found)}", bucket.prefix)
        own.ensure()
        platform = Platform(settings_of, own)
        put(platform, "a", *EVERY_SHAPE, zipped=True)
        flat(platform, "2026-03-01.csv", *EVERY_LINE)
        platform.load("online_retail")
        platform.sync("pos")
        put(platform, "b", receipt("t1", item("p1", 4)), receipt("t9"))
        put(platform, "c", receipt("t1", item("p1", 5)))
        platform.sync("pos")
        put(platform, "c", receipt("t9", currency="EUR"))
        platform.sync("pos")
        before = sales(platform), [platform.rows(table) for table in tables]
        platform.build("--full-refresh")
        assert (sales(platform), [platform.rows(table) for table in tables]) == before
        found.append(before)
    assert found[0] == found[1]
    assert all(found[0][1])
