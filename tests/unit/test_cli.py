"""The c360 command: exit codes, results on stdout and all else on stderr, one text for each value."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import duckdb
import pytest

from c360_assets import cli
from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.settings import PROJECT


class Told(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Told]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith(("C360_", "AWS_", "SNOWFLAKE_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("C360_HOME", str(home))
    return home


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> Told:
        capsys.readouterr()
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Told(code, told.out, told.err)

    return run


def test_who_only_asks_waits_for_no_library_of_the_graph() -> None:
    """Seconds of imports, else, before the first row of an answer."""
    script = "import sys, c360_assets.commands; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    slow = {
        "dbt",
        "dagster_aws",
        "dagster_dbt",
        "fastapi",
        "snowflake.connector",
        "streamlit",
        "confluent_kafka",
        "pandas",
    }
    assert slow & set(done.stdout.split()) == set()


@pytest.fixture
def warehouse(home: Path) -> Path:
    home.mkdir()
    path = home / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table t as select 1 as n")
    return path


@pytest.fixture
def s3(s3_endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, bytes]]:
    """Settings that lead to the test's S3; returns what its bucket holds, {} if there is none."""
    bucket = f"t-{uuid.uuid4().hex[:12]}"
    for name, value in (
        ("AWS_ENDPOINT_URL", s3_endpoint),
        ("AWS_ACCESS_KEY_ID", "t"),
        ("AWS_SECRET_ACCESS_KEY", "t"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("C360_BUCKET", bucket),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")

    def held() -> dict[str, bytes]:
        if bucket not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
            return {}
        keys = [o["Key"] for o in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    return held


# --- usage


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "COMMAND"),
        (["snyc"], "snyc"),
        (["sync", "--nothing"], "--nothing"),
        (["query"], "sql"),
        (["query", " ; "], "empty"),
        (["query", "select 1", "--format", "xml"], "xml"),
        (["query", "select 1", "--wait", "long"], "long"),
        (["query", "select 1", "select 2"], "select 2"),
        (["land", "x.csv"], "--feed"),
        (["land", "--feed", "customers"], "PATH"),
        (
            ["land", "x.csv", "--feed", "custmers"],
            "'custmers' is not declared; there are: categories, clickstream, customers",
        ),
        (["status", "--format", "csv"], "csv"),
        (["quarantine"], "ACTION"),
        (["quarantine", "release"], "release"),
        (["quarantine", "list", "--row", "first"], "first"),
        (
            ["quarantine", "list", "--feed", "custmers"],
            "'custmers' is not declared; there are: categories, clickstream, customers",
        ),
        (["quarantine", "replay"], "--all"),
        (["quarantine", "dismiss", "--all"], "--why"),
        (["quarantine", "dismiss", "--why", "so"], "--all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_64_with_a_message_on_stderr_and_nothing_on_stdout(
    arguments: list[str], told: str, run: Run, home: Path
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (64, "")
    assert told in err
    assert not home.exists()  # nothing was started or made


def test_an_unknown_setting_is_wrong_usage_and_lists_those_there_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C360_HOEM", "/tmp")
    code, out, err = run("query", "select 1")
    assert (code, out) == (64, "")
    assert "C360_HOEM" in err
    assert "C360_HOME" in err


def test_a_wrong_declaration_is_told_with_its_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = tmp_path / "dbt" / "models" / "staging"
    staging.mkdir(parents=True)
    (staging / "broken.yml").write_text("sources: [")
    monkeypatch.setenv("C360_DBT_PROJECT", str(tmp_path / "dbt"))
    code, out, err = run("land", tmp_path, "--feed", "customers")
    assert (code, out) == (64, "")
    assert str(staging / "broken.yml") in err


def test_wrong_usage_is_told_by_the_process_at_once(home: Path) -> None:
    """By the real exit code, and before the seconds that importing Dagster takes."""
    command = [sys.executable, "-X", "importtime", "-m", "c360_assets.cli", "query"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert "usage: c360 query" in ended.stderr
    assert "| dagster" not in ended.stderr.replace("|   ", "| ").replace("|  ", "| ")


def test_help_is_a_result(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for command in ("land", "sync", "status", "query", "up", "quarantine"):
        assert command in out


# --- land


def test_landing_tells_key_etag_and_what_became_of_each_file(run: Run, s3: Any, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"1")
    (folder / "b ü.csv").write_bytes(b"2")
    (folder / ".hidden").write_bytes(b"3")
    one, two = "c4ca4238a0b923820dcc509a6f75849b", "c81e728d9d4c2f636f067f89cc14862c"
    a, b = "stream_data/customers/a.csv", "stream_data/customers/b ü.csv"
    assert run("land", folder, "--feed", "customers") == (0, f"{a} {one} new\n{b} {two} new\n", "")
    assert run("land", folder, "--feed", "customers") == (0, f"{a} {one} same\n{b} {two} same\n", "")
    (folder / "a.csv").write_bytes(b"2")
    assert run("land", folder / "a.csv", "--feed", "customers") == (0, f"{a} {two} overwritten\n", "")
    assert s3() == {a: b"2", b: b"2"}


@pytest.mark.parametrize("wrong", ["missing.csv", "empty", "same"])
def test_one_wrong_path_lands_nothing_at_all(wrong: str, run: Run, s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "same").mkdir()
    (tmp_path / "same" / "a.csv").write_bytes(b"2")
    code, out, err = run("land", tmp_path / "a.csv", tmp_path / wrong, "--feed", "customers")
    assert code == (64 if wrong == "same" else 1)
    assert out == ""
    assert ("a.csv" if wrong == "same" else str(tmp_path / wrong)) in err
    assert s3() == {}


def test_a_missing_path_does_not_even_start_an_s3(run: Run, home: Path, tmp_path: Path) -> None:
    code, out, err = run("land", tmp_path / "missing.csv", "--feed", "customers")
    assert (code, out) == (1, "")
    assert f"{tmp_path / 'missing.csv'} is no file and no folder" in err
    assert not home.exists()


# --- query


TYPES = """
    select
        '007' as id,
        timestamp '2024-01-02 03:04:05' as at,
        timestamp '2024-01-02 03:04:05.000600' as at_micros,
        timestamptz '2024-01-02 03:04:05+02:30' as at_zone,
        timestamp_ns '2024-01-02 03:04:05.123456' as at_ns,
        date '2024-01-02' as day,
        1234567.5000::decimal(18, 4) as money,
        0.00000001::decimal(18, 8) as small,
        true as yes,
        false as no,
        null::varchar as nothing,
        null::timestamp as never,
        12345678901234567890::hugeint as big,
        0.1::double as ratio,
        'a "quoted", ü\nline' as text
"""


def test_each_value_has_its_one_text_in_csv(run: Run, warehouse: Path) -> None:
    code, out, err = run("query", TYPES, "--format", "csv")
    assert (code, err) == (0, "")
    names, values = csv.reader(io.StringIO(out))
    assert dict(zip(names, values, strict=True)) == {
        "id": "007",
        "at": "2024-01-02T03:04:05Z",
        "at_micros": "2024-01-02T03:04:05.000600Z",
        "at_zone": "2024-01-02T00:34:05Z",
        "at_ns": "2024-01-02T03:04:05.123456Z",
        "day": "2024-01-02",
        "money": "1234567.5000",
        "small": "0.00000001",
        "yes": "true",
        "no": "false",
        "nothing": "",
        "never": "",
        "big": "12345678901234567890",
        "ratio": "0.1",
        "text": 'a "quoted", ü\nline',
    }
    assert "\r" not in out


def test_each_value_has_its_one_text_in_json(run: Run, warehouse: Path) -> None:
    code, out, err = run("query", f"{TYPES} union all by name select null as id", "--format", "json")
    assert (code, err) == (0, "")
    first, second = json.loads(out)
    assert first == {
        "id": "007",
        "at": "2024-01-02T03:04:05Z",
        "at_micros": "2024-01-02T03:04:05.000600Z",
        "at_zone": "2024-01-02T00:34:05Z",
        "at_ns": "2024-01-02T03:04:05.123456Z",
        "day": "2024-01-02",
        "money": "1234567.5000",
        "small": "0.00000001",
        "yes": True,
        "no": False,
        "nothing": None,
        "never": None,
        "big": 12345678901234567890,
        "ratio": 0.1,
        "text": 'a "quoted", ü\nline',
    }
    assert set(second.values()) == {None}


def test_a_table_shows_the_same_texts(run: Run, warehouse: Path) -> None:
    sql = "select '007' as id, timestamp '2024-01-02 03:04:05' as at, 1.50::decimal(9, 2) as money, true as yes, null as nothing"
    code, out, err = run("query", sql)
    assert (code, err) == (0, "")
    names, _, values = (line.split() for line in out.splitlines())
    assert names == ["id", "at", "money", "yes", "nothing"]
    assert values == ["007", "2024-01-02T03:04:05Z", "1.50", "true"]


def test_values_within_values_have_the_same_texts(run: Run, warehouse: Path) -> None:
    sql = "select {'at': timestamp '2024-01-02 03:04:05', 'money': [1.50::decimal(9, 2), null]} as nested"
    (row,) = json.loads(run("query", sql, "--format", "json").out)
    nested = json.loads(row["nested"]) if isinstance(row["nested"], str) else row["nested"]
    assert nested == {"at": "2024-01-02T03:04:05Z", "money": ["1.50", None]}


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_no_rows_are_a_result_too(form: str, run: Run, warehouse: Path) -> None:
    code, out, err = run("query", "select n, 'x' as name from t where false", "--format", form)
    assert (code, err) == (0, "")
    if form == "json":
        assert json.loads(out) == []
    else:
        assert out.splitlines()[0].replace(",", " ").split() == ["n", "name"]


def test_what_is_no_number_is_still_json(run: Run, warehouse: Path) -> None:
    def strict(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    out = run("query", "select 'nan'::double as a, '-infinity'::double as b", "--format", "json").out
    json.loads(out, parse_constant=strict)


@pytest.mark.parametrize(
    "sql",
    [
        "insert into t values (2)",
        "  DELETE from t",
        "update t set n = 2",
        "drop table t",
        "create table u as select 1",
        "copy t to '{file}'",
        "attach '{file}' as other",
        "install httpfs",
        "set memory_limit = '1GB'",
        "with two as (select 2) insert into t select * from two",
        "select 1; drop table t",
        "select 1; insert into t values (2)",
        "select 1; copy t to '{file}'",
        "select 1; attach '{file}' as other; create table other.u as select 1",
        "explain analyze insert into t values (2)",
        "explain analyze copy t to '{file}'",
    ],
)
def test_what_is_no_query_is_refused_and_writes_nothing(sql: str, run: Run, warehouse: Path, tmp_path: Path) -> None:
    file = tmp_path / "out"
    code, out, err = run("query", sql.format(file=file), "--format", "csv")
    assert code in (1, 64)
    assert out == ""
    assert err.startswith("c360")
    assert not file.exists()
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        assert connection.execute("select * from t").fetchall() == [(1,)]


def test_a_wrong_statement_is_told_without_a_result(run: Run, warehouse: Path) -> None:
    code, out, err = run("query", "select nope from t", "--format", "csv")
    assert (code, out) == (1, "")
    assert err.startswith("c360: ")
    assert "nope" in err


def test_a_home_without_a_warehouse_says_what_to_do(run: Run, home: Path) -> None:
    for arguments in (("query", "select 1"), ("quarantine", "list"), ("quarantine", "replay", "--all")):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "")
        assert str(home / "warehouse.duckdb") in err
        assert "c360 sync" in err
    assert not home.exists()


def test_a_query_waits_its_turn_for_as_long_as_it_is_told(run: Run, warehouse: Path) -> None:
    with DuckDBWarehouse(warehouse).held("loading customers"):
        code, out, err = run("query", "select 1", "--wait", "0.3")
    assert (code, out) == (1, "")
    waiting, busy = err.splitlines()
    assert waiting == f"waiting for the warehouse, held by process {os.getpid()} (loading customers)"
    assert busy.startswith("c360: ")
    assert "still held" in busy


def test_a_reader_that_has_seen_enough_is_no_error(home: Path, warehouse: Path) -> None:
    query = f"{sys.executable} -m c360_assets.cli query 'select * from range(100000)' --format csv"
    command = f"{query} | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("range\n0\n", "")


# --- history, audit, entities


@pytest.fixture
def histories(tmp_path: Path) -> Path:
    """A DuckDB file of somebody else: a right history, one with an overlap, and the log of both."""
    path = tmp_path / "theirs.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            """
            create table log as select * from (values
                ('C1', 'Rome', timestamp '2024-01-01'), ('C1', 'Oslo', timestamp '2024-03-01')) as t(id, city, at_time);
            create table sound as select * from (values
                ('C1', 'Rome', timestamp '2024-01-01', timestamp '2024-03-01'),
                ('C1', 'Oslo', timestamp '2024-03-01', null)) as t(id, city, valid_from, valid_to);
            create table broken as select * from (values
                ('C1', 'Rome', timestamp '2024-01-01', timestamp '2024-04-01'),
                ('C1', 'Oslo', timestamp '2024-03-01', null)) as t(id, city, valid_from, valid_to);
            """
        )
    return path


def test_an_audit_ends_with_0_where_nothing_is_wrong_and_with_2_where_something_is(run: Run, histories: Path) -> None:
    asked = (
        "audit",
        "--database",
        histories,
        "--key",
        "id",
        "--log",
        "main.log",
        "--event-time",
        "at_time",
        "--format",
        "json",
    )
    sound = run(*asked, "--history", "main.sound")
    assert (sound.code, json.loads(sound.out)["counts"]) == (0, {})
    broken = run(*asked, "--history", "main.broken")
    assert broken.code == 2
    assert json.loads(broken.out)["counts"].keys() & {"overlap", "wrong_end"}


def test_an_audit_of_what_is_not_there_is_told(run: Run, histories: Path) -> None:
    told = run("audit", "--database", histories, "--history", "main.nothing", "--key", "id")
    assert told.code == 64 and "main.nothing" in told.err
    told = run("audit", "--database", "no.duckdb", "--history", "main.sound", "--key", "id")
    assert told.code == 64 and "there is no file no.duckdb" in told.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("customer", "C1", "--entity", "shop"), "entity 'shop' is not declared; there are: customer, product"),
        (("customer", "C1", "C2"), "the key of customer is customer_id"),
        (("customer", "C1", "--as-of", "soon"), "--as-of: 'soon' is no instant"),
        (("explain", "C1", "--entity", "shop"), "entity 'shop' is not declared"),
        (("entity", "Big Thing", "--key", "id", "--tracked", "a"), "'Big Thing' is no name"),
    ],
)
def test_a_wrong_question_is_wrong_usage(run: Run, warehouse: Path, arguments: tuple[str, ...], named: str) -> None:
    told = run(*arguments)
    assert told.code == 64 and named in told.err and told.out == ""
