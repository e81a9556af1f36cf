"""Objects that Snowflake fetches itself come to the same rows as those that our reader reads, or go through our reader.

fakesnow runs no COPY from S3 and no pipe: their part, lines into a table, is played here, as Snowflake documents it.
What is made of the lines runs as it is.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from snowflake.connector.errors import ProgrammingError

from c360_assets import staging
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, Listed
from c360_assets.settings import Settings
from c360_assets.snowflake import arrivals
from c360_assets.snowflake.arrivals import Fetching
from c360_assets.snowflake.native import native
from c360_assets.spool import Outcome, Spool, read_all
from c360_assets.warehouse import Session, WarehouseRefused
from tests.parts import Platform, Row, on_both, on_duckdb
from tests.platform.test_till import item, receipt
from tests.scripting import Procedure

pytestmark = on_duckdb

HEADER = b"customer_id,first_name,city,updated_at,op\n"
PLAIN = HEADER + b"1,Ada,Rome,2024-01-01,I\n2,,Oslo,2024-01-01,I\n3,Zo\xc3\xab,,2024-01-02,U\n"
# What our reader takes in part, or takes otherwise than by its lines: {name: object}.
NOT_PLAIN = {
    "quoted": HEADER + b'1,"Ada, the first",Rome,2024-01-01,I\n',
    "ragged": HEADER + b"1,Ada,Rome,2024-01-01,I\n2,Bob,Oslo\n",
    "too_many": HEADER + b"1,Ada,Rome,2024-01-01,I,x\n",
    "header_again": PLAIN + HEADER + b"4,Dan,Rome,2024-01-01,I\n",
    "header_again_shouting": PLAIN + HEADER.upper() + b"4,Dan,Rome,2024-01-01,I\n",
    "blank_line": PLAIN + b"\n4,Dan,Rome,2024-01-01,I\n",
    "unknown_column": HEADER.replace(b"city", b"town") + b"1,Ada,Rome,2024-01-01,I\n",
    "twice_a_column": HEADER.replace(b"city", b"first_name") + b"1,Ada,Rome,2024-01-01,I\n",
    "no_key_column": b"first_name,city,updated_at,op\nAda,Rome,2024-01-01,I\n",
    "spaces_in_header": HEADER.replace(b",city", b", city") + b"1,Ada,Rome,2024-01-01,I\n",
    "return_in_a_value": HEADER + b"1,Ada\rEve,Rome,2024-01-01,I\n",
    "byte_order_mark": b"\xef\xbb\xbf" + PLAIN,
}
ALSO_PLAIN = {
    "no_last_line_end": PLAIN.rstrip(b"\n"),
    "only_a_header": HEADER,
    "another_order": b"OP,city,customer_id,updated_at\nI,Rome,9,2024-01-05\n",
    "windows": PLAIN.replace(b"\n", b"\r\n"),
    "a_name_among_values": HEADER + b"4,op,city,2024-01-05,I\n",
    "zipped": gzip.compress(PLAIN),
}


def lines_of(body: bytes) -> list[str] | None:
    """The records of an object in the format of arrivals; None where Snowflake would refuse the file."""
    if body[:2] == b"\x1f\x8b":
        body = gzip.decompress(body)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


class Snowflake:
    """COPY and pipes, as far as they are not there."""

    def __init__(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bucket = bucket
        self.copied: list[str] = []
        self.deleted: set[str] = set()
        monkeypatch.setattr(arrivals, "copy_objects", self.copy)

    def copy(self, session: Session, feed: Feed, table: str, names: Sequence[str]) -> None:
        """All of them or none; those of `deleted` are gone by now."""
        keys = [self.bucket.folder(feed) + name for name in names]
        for key in self.deleted:
            self.bucket.client.delete_object(Bucket=self.bucket.name, Key=key)
        if gone := sorted(self.deleted & set(keys)):
            raise ProgrammingError(f"Remote file 's3://{self.bucket.name}/{gone[0]}' was not found. There are several")
        self.bring(session, feed, table, keys)

    def bring(self, session: Session, feed: Feed, table: str, keys: Sequence[str]) -> None:
        """Lines of the objects into the table, in no order."""
        for key in keys:
            self.copied.append(key)
            answer = self.bucket.client.get_object(Bucket=self.bucket.name, Key=key)
            lines = lines_of(answer["Body"].read())
            for number, line in reversed(list(enumerate(lines or (), 1))):
                session.execute(
                    f"insert into {table} (line, file, content_key, file_row) values (?, ?, ?, ?)",
                    [line, key, answer["ETag"], number],
                )


@pytest.fixture
def snowflake(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Snowflake:
    return Snowflake(bucket, monkeypatch)


def fetched(platform: Platform, way: str, feed: str = "customers", patience: float = 300.0) -> staging.Loaded:
    return staging.load_new(
        platform.feeds[feed], platform.bucket, platform.warehouse, platform.settings.spool,
        objects=500, size=1 << 30, fetching=Fetching(way, platform.bucket.prefix, patience),
    )  # fmt: skip


def staged(platform: Platform, feed: str = "customers") -> list[list[Row]]:
    """All that a load writes, but for when and in which batch."""
    columns = ", ".join(platform.feeds[feed].columns)
    return [
        platform.rows(f"select {columns}, _key, _etag, _row, _extra from staging.{feed} order by _key, _row"),
        platform.rows("select feed, key, etag, size, cast(event_time as varchar), status from staging.object_ledger order by 2"),
        platform.rows("select _key, _etag, _row, raw, reasons from staging.refused_rows order by 1, 3"),
    ]  # fmt: skip


def read_by_us(platform: Platform, settings: Settings, feed: str = "customers") -> list[list[Row]]:
    other = Platform(settings, platform.bucket)
    other.load(feed)
    return staged(other, feed)


def test_plain_objects_are_taken_as_they_arrived_and_are_staged_as_if_read(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(on_snowflake, bucket)
    for name, body in {"plain": PLAIN, **ALSO_PLAIN}.items():
        platform.put(f"{name}.csv", body)
    read: list[str] = []

    def watched(feed: Feed, plan: Sequence[Listed], bucket: Bucket, spooled: Spool) -> Iterator[Outcome]:
        read.extend(listed.key for listed in plan)
        return read_all(feed, plan, bucket, spooled)

    monkeypatch.setattr(staging, "read_all", watched)
    loaded = fetched(platform, "copy")
    assert read == []
    assert (loaded.objects, loaded.rows) == (7, 3 * 4 + 2)
    assert staged(platform) == read_by_us(platform, settings)
    assert fetched(platform, "copy").objects == 0


def test_an_object_that_is_deleted_after_the_listing_holds_up_no_other(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake
) -> None:
    platform = Platform(on_snowflake, bucket)
    keys = {name: platform.put(f"{name}.csv", PLAIN) for name in ("a", "b", "c", "d", "e")}
    snowflake.deleted = {keys["b"], keys["e"]}
    loaded = fetched(platform, "copy")
    assert (loaded.by_status, loaded.rows) == ({"loaded": 3, "gone": 2}, 9)
    assert sorted(snowflake.copied) == sorted(set(keys.values()) - snowflake.deleted)
    rows, ledger, refused = staged(platform)
    standing = [row for row in ledger if row[1] not in snowflake.deleted]
    assert [rows, standing, refused] == read_by_us(platform, settings)
    assert fetched(platform, "copy").objects == 0


def test_another_error_of_copy_is_not_taken_for_a_missing_object(
    on_snowflake: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*told: object) -> None:
        raise ProgrammingError("Stage 'LANDING' does not exist or not authorized.")

    monkeypatch.setattr(arrivals, "copy_objects", copy)
    platform = Platform(on_snowflake, bucket)
    platform.put("a.csv", PLAIN)
    with pytest.raises(WarehouseRefused, match="LANDING"):
        fetched(platform, "copy")


def test_what_is_not_plain_goes_through_our_reader(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake
) -> None:
    platform = Platform(on_snowflake, bucket)
    for name, body in NOT_PLAIN.items():
        platform.put(f"{name}.csv", body)
    platform.put("not_utf8.csv", HEADER + b"1,Ad\xe9,Rome,2024-01-01,I\n")
    platform.put("empty.csv", b"")
    fetched(platform, "copy")
    assert staged(platform) == read_by_us(platform, settings)


def test_what_a_pipe_brought_is_taken_once_and_what_it_did_not_bring_is_awaited_and_then_read(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake
) -> None:
    platform = Platform(on_snowflake, bucket)
    feed, table = platform.feeds["customers"], "staging.arrived_customers"
    brought, late = platform.put("a.csv", PLAIN), platform.put("b.csv", ALSO_PLAIN["another_order"])
    assert fetched(platform, "pipe").objects == 0, "nothing has arrived, and there is patience"
    with platform.warehouse.writing("test") as session:
        snowflake.bring(session, feed, table, [brought])
    assert fetched(platform, "pipe").objects == 1
    assert platform.rows(f"select count(*) from {table}") == [(0,)]
    assert fetched(platform, "pipe").objects == 0
    assert fetched(platform, "pipe", patience=0.0).objects == 1, "what the pipe does not bring is read"
    # It comes after all: the ledger knows it, and its lines are taken by nobody.
    with platform.warehouse.writing("test") as session:
        snowflake.bring(session, feed, table, [late])
    assert fetched(platform, "pipe").objects == 0
    assert staged(platform) == read_by_us(platform, settings)
    # With the next load they are gone.
    platform.put("c.csv", ALSO_PLAIN["only_a_header"])
    assert fetched(platform, "pipe", patience=0.0).objects == 1
    assert platform.rows(f"select count(*) from {table}") == [(0,)]


def test_a_version_that_a_pipe_brought_before_is_not_taken_for_the_one_that_is_there(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake
) -> None:
    platform = Platform(on_snowflake, bucket)
    fetched(platform, "pipe")  # the tables are there
    key = platform.put("a.csv", PLAIN)
    with platform.warehouse.writing("test") as session:
        session.execute(arrivals.make_table(platform.feeds["customers"]))
        snowflake.bring(session, platform.feeds["customers"], "staging.arrived_customers", [key])
    platform.put("a.csv", PLAIN.replace(b"Rome", b"Bonn"))
    assert fetched(platform, "pipe").objects == 1
    assert staged(platform) == read_by_us(platform, settings)
    assert platform.rows("select count(*) from staging.arrived_customers") == [(0,)]


def test_what_a_pipe_brought_in_part_is_awaited_and_what_it_brought_twice_counts_once(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake
) -> None:
    """Snowpipe may load an object in several transactions."""
    platform = Platform(on_snowflake, bucket)
    feed, table = platform.feeds["customers"], "staging.arrived_customers"
    key = platform.put("a.csv", PLAIN)
    platform.put("b.csv.gz", gzip.compress(PLAIN))
    assert fetched(platform, "pipe").objects == 1, "of what is zipped nobody could tell whether it is whole: it is read"
    with platform.warehouse.writing("test") as session:
        snowflake.bring(session, feed, table, [key])
        session.execute(f"create table staging.rest as select * from {table} where file_row > 2")
        session.execute(f"delete from {table} where file_row > 2")
    loaded = fetched(platform, "pipe")
    assert (loaded.objects, loaded.awaited) == (0, 1)
    with platform.warehouse.writing("test") as session:
        session.execute(f"insert into {table} select * from staging.rest union all select * from staging.rest")
    assert fetched(platform, "pipe").rows == 3
    assert staged(platform) == read_by_us(platform, settings)
    assert platform.rows(f"select count(*) from {table}") == [(0,)]


def test_json_goes_through_our_reader(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake
) -> None:
    """Snowflake parses what no standard knows, such as a comma before a closing bracket."""
    platform = Platform(on_snowflake, bucket)
    platform.put("a.json", json.dumps(receipt("t1", item())).encode(), feed="pos")
    assert fetched(platform, "copy", "pos").objects == 1
    assert snowflake.copied == []
    assert staged(platform, "pos") == read_by_us(platform, settings, "pos")


# ------------------------------------------------------------------------------------------------------------ by a task

DATED = b"customer_id,first_name,city\n7,Gil,Rome\n8,Hal,Oslo\n"


def taking(platform: Platform, listed: Sequence[str] | None = None) -> None:
    """The task that takes what pipes brought, with the stage's directory as S3 has it, or some keys of it."""
    settings = replace(platform.settings, loading="pipe", prefix=platform.bucket.prefix)
    made = native(settings, {"customers": platform.feeds["customers"]}, {})
    (procedure,) = [s for s in made if s.kind == "procedure"]
    with platform.warehouse.writing("test") as session:
        session.execute(
            "create or replace table staging.directory "
            "(relative_path varchar, etag varchar, size bigint, last_modified timestamp_tz)"
        )
        for found in platform.bucket.listed(platform.feeds["customers"]):
            if listed is None or found.key in listed:
                name = found.key.removeprefix(f"{platform.bucket.prefix}/" if platform.bucket.prefix else "")
                session.execute(
                    "insert into staging.directory select ?, ?, ?, cast(? as timestamp_tz)",
                    [name, found.etag, found.size, f"{found.last_modified.isoformat(sep=' ')} +00:00"],
                )
        for statement in made:
            if statement.kind == "table" and statement.sql.startswith(("create", "insert")):
                session.execute(statement.sql)
        session.execute("use schema staging")
        assert Procedure(procedure.sql).run(session, on_fakesnow) == "nothing waits"


def on_fakesnow(sql: str) -> str:
    """What it has no idea of."""
    if sql.startswith("insert into staging.woken") or sql == "alter stage staging.landing refresh":
        return "select 1"
    return sql.replace("directory(@staging.landing)", "staging.directory")


def test_the_task_takes_plain_objects_as_if_read_and_leaves_us_the_others(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake
) -> None:
    platform = Platform(on_snowflake, bucket)
    fetched(platform, "pipe")
    bodies = {**{name: body for name, body in ALSO_PLAIN.items() if name != "zipped"}, **NOT_PLAIN, "plain": PLAIN}
    bodies |= {"customer_20240301120000": DATED, "customer_20249901120000": DATED, "undated": DATED}
    keys = {name: platform.put(f"{name}.csv", body) for name, body in bodies.items()}
    before = {"customer_20240301120000", "plain", "another_order", "only_a_header", "no_last_line_end"}
    before |= {"a_name_among_values", "customer_20249901120000"}
    with platform.warehouse.writing("test") as session:
        session.execute(arrivals.make_table(platform.feeds["customers"]))
        snowflake.bring(session, platform.feeds["customers"], "staging.arrived_customers", list(keys.values()))
    taking(platform)
    assert {key for (key,) in platform.rows("select key from staging.object_ledger")} == {keys[n] for n in before}
    taking(platform)
    fetched(platform, "pipe", patience=0.0)
    assert staged(platform) == read_by_us(platform, settings)
    batches = [batch for (batch,) in platform.rows("select distinct batch from staging.object_ledger order by 1")]
    assert len(batches) == 2 and all(re.fullmatch(r"\d{8}T\d{6}\.\d{6}-[0-9a-f]{4}", batch) for batch in batches)


@on_both
def test_the_task_leaves_changed_objects_and_parts_and_other_versions_to_us(
    on_snowflake: Settings, settings: Settings, bucket: Bucket, snowflake: Snowflake
) -> None:
    platform = Platform(on_snowflake, bucket)
    feed, table = platform.feeds["customers"], "staging.arrived_customers"
    changed = platform.put("changed.csv", PLAIN)
    fetched(platform, "pipe", patience=0.0)
    platform.put("changed.csv", PLAIN.replace(b"Rome", b"Bonn"))
    part, old, gone = (platform.put(f"{name}.csv", PLAIN) for name in ("part", "old", "gone"))
    with platform.warehouse.writing("test") as session:
        snowflake.bring(session, feed, table, [changed, part, old, gone])
        session.execute(f"delete from {table} where file = ? and file_row = 2", [part])
    platform.put("old.csv", PLAIN.replace(b"Rome", b"Lima"))
    taking(platform, listed=[changed, part, old])
    assert platform.rows("select count(*) from staging.object_ledger") == [(1,)]
    fetched(platform, "pipe", patience=0.0)
    # Of what changed, and has no date in its name, both versions stand.
    versions = f"select count(distinct _etag), count(*) from staging.customers where _key = '{changed}'"
    assert platform.rows(versions) == [(2, 2 * 3)]
    newest = "select key, etag from staging.object_ledger qualify row_number() over (partition by key order by batch desc) = 1"
    assert dict(platform.rows(newest)) == {o.key: o.etag for o in bucket.listed(feed)}
