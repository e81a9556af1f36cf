"""A broken invariant stops what comes after it, says which rows broke it, and is over after a rebuild."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import boto3
import dagster as dg
import duckdb
import pytest

from c360_assets import local, runs
from c360_assets.cli import BLOCKED, DONE, main
from c360_assets.definitions import build_defs
from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from tests.parts import at_length, project_with, read_already, without_shop

HEADER = "customer_id,city,updated_at,op\n"
FILES = {
    "a.csv": HEADER + "anna,Rome,2024-01-01T00:00:00Z,I\nbert,Oslo,2024-01-01T00:00:00Z,I\n",
    "b.csv": HEADER + "anna,Bonn,2024-02-01T00:00:00Z,U\nanna,Bern,2024-03-01T00:00:00Z,U\n",
}
CHANGE_DATA = "core/v_customer_change_data"


@dataclass
class Home:
    """A home whose warehouse can be put back as it was, and what its last run told."""

    settings: Settings
    environment: dict[str, str]
    told: list[str] = field(default_factory=list)
    events: list[dg.DagsterEvent] = field(default_factory=list)
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.NOT_STARTED

    def sync(self, *, rebuild: bool = False, everything: bool = True) -> int:
        """What `c360 sync --all` does, or without `everything` `c360 sync`; returns its exit code and keeps its lines, and the run as Dagster has it."""
        self.told = []
        with local.dagster_instance(self.settings) as instance:
            code = runs.sync(self.settings, instance, rebuild=rebuild, everything=everything, say=self.told.append)
            run = instance.get_runs(limit=1)[0]
            self.status = run.status
            self.events = [e.dagster_event for e in instance.all_logs(run.run_id) if e.dagster_event is not None]
        return code

    @property
    def failed(self) -> list[dg.AssetCheckEvaluation]:
        """The checks that the last run failed as errors."""
        evaluations = [
            e.asset_check_evaluation_data for e in self.events if e.event_type_value == "ASSET_CHECK_EVALUATION"
        ]
        return [c for c in evaluations if not c.passed and c.severity == dg.AssetCheckSeverity.ERROR]

    def failure(self, name: str) -> dg.AssetCheckEvaluation:
        fitting = [c for c in self.failed if name in c.check_name]
        assert fitting, f"no {name} among {[c.check_name for c in self.failed]}"
        return fitting[0]

    @property
    def materialized(self) -> set[str]:
        """What the last run made."""
        made = [e.asset_key for e in self.events if e.event_type_value == "ASSET_MATERIALIZATION"]
        return {key.to_user_string() for key in made if key}

    def execute(self, sql: str) -> None:
        """Somebody's hand in the warehouse."""
        with duckdb.connect(str(self.settings.duckdb_path)) as connection:
            assert connection.execute(sql).fetchall() != [(0,)], "the statement was to change something"

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with duckdb.connect(str(self.settings.duckdb_path), read_only=True) as connection:
            return connection.execute(sql).fetchall()


def expecting(home: Path) -> Path:
    """A project in which a customer file of some size has cities."""
    feed = (without_shop() / "models" / "staging" / "customers.yml").read_text()
    rule = "expect:\n                - {column: city, null_share: 0.5, severity: block}\n"
    return project_with(home / "project", {"models/staging/customers.yml": feed.replace("expect:\n", rule)})


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[tuple[Home, Path]]:
    # A name without `lock` in it: what is tried again is told by words in the error, and dbt's errors name their folder.
    home = tmp_path_factory.mktemp("invariants")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "t",
            "AWS_SECRET_ACCESS_KEY": "t",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        # prepare_home sets these for child processes.
        patch.setenv("DAGSTER_HOME", "")
        patch.setenv("C360_HOME", "")
        environment = {
            "C360_HOME": str(home),
            "C360_BUCKET": f"t-{home.name}",
            "C360_WAIT": "20",
            "C360_DBT_PROJECT": str(expecting(home)),
            "AWS_ENDPOINT_URL": s3_endpoint,
        }
        settings = Settings.load(environment)
        client = boto3.client("s3", endpoint_url=s3_endpoint)
        bucket = Bucket(client, settings.bucket, settings.prefix)
        bucket.ensure()
        for name, text in FILES.items():
            client.put_object(Bucket=bucket.name, Key=f"stream_data/customers/{name}", Body=text.encode())
        made = Home(read_already(settings), environment)
        assert made.sync() == DONE, made.told
        kept = home / "good.duckdb"
        shutil.copy(settings.duckdb_path, kept)
        yield made, kept


@pytest.fixture
def home(good: tuple[Home, Path]) -> Home:
    made, kept = good
    put_back(made, kept)
    return made


def put_back(home: Home, kept: Path) -> None:
    home.settings.duckdb_path.with_suffix(".duckdb.wal").unlink(missing_ok=True)
    shutil.copy(kept, home.settings.duckdb_path)


# anna's first version now ends in the middle of her second one.
OVERLAP = """
    update core.customer_log set next_at = timestamp '2024-02-15'
    where customer_id = 'anna' and event_time = timestamp '2024-01-01'
"""
# A row received is gone, and nothing says why.
LOST = "delete from staging.customers where _key like '%b.csv' and _row = 2"


def kept_rows(home: Home) -> set[str]:
    """The checks of which failing rows are in the warehouse."""
    return {
        name for (name,) in home.rows("select table_name from information_schema.tables where table_schema = 'checks'")
    }


def test_an_overlap_in_the_history_stops_what_is_made_of_it_and_names_its_keys(home: Home) -> None:
    assert home.rows("select count(*) from core.v_customer_change_data") == [(4,)]
    home.execute(OVERLAP)
    assert home.sync() == BLOCKED == 2, home.told
    assert home.status == dg.DagsterRunStatus.FAILURE
    overlap = home.failure("no_overlap")
    # Failing rows are kept, and of a check that passes no table.
    assert kept_rows(home) == {check.check_name for check in home.failed}
    assert overlap.asset_key == dg.AssetKey(["core", "customer_history"])
    rows = overlap.metadata["failing rows"]
    assert isinstance(rows, dg.MarkdownMetadataValue)
    head, line, *body = str(rows.value).splitlines()
    assert "customer_id" in head and set(line) <= set("| -")
    assert len(body) == 1 and "anna" in body[0] and "bert" not in str(rows.value)
    assert "core/customer_log" in home.materialized
    assert CHANGE_DATA not in home.materialized
    assert any(f"core/customer_history: {overlap.check_name} failed" in told for told in home.told), home.told
    assert any("a blocking check failed" in told for told in home.told), home.told


def test_a_rebuild_from_staging_mends_a_broken_history(home: Home) -> None:
    home.execute(OVERLAP)
    assert home.sync(rebuild=True) == DONE, home.told
    assert home.status == dg.DagsterRunStatus.SUCCESS and home.failed == []
    assert CHANGE_DATA in home.materialized
    assert kept_rows(home) == set()
    assert home.rows("select count(*) from core.v_customer_change_data") == [(4,)]
    assert home.rows("select count(*) from staging.unfinished_rebuild") == [(0,)]


@at_length
def test_a_rebuild_that_broke_off_is_brought_to_its_end_by_the_next_sync(home: Home) -> None:
    home.execute(OVERLAP)
    # What a rebuild leaves that was killed before it came to the history.
    home.execute("insert into staging.unfinished_rebuild values (timestamp '2026-01-01')")
    assert home.sync() == DONE, home.told
    assert home.rows("select count(*) from core.v_customer_change_data") == [(4,)]
    assert home.rows("select count(*) from staging.unfinished_rebuild") == [(0,)]


@pytest.fixture(scope="module")
def without_a_row(good: tuple[Home, Path]) -> tuple[Home, int]:
    """The home after a sync that found a row missing, and the exit code of that sync."""
    made, kept = good
    put_back(made, kept)
    made.execute(LOST)
    code = made.sync()
    # A copy: what this run told stays as it is when the next test uses the home.
    return replace(made), code


def test_a_row_lost_behind_the_accountings_back_fails_the_run_and_names_its_object(
    without_a_row: tuple[Home, int],
) -> None:
    home, code = without_a_row
    assert code == BLOCKED, home.told
    assert home.status == dg.DagsterRunStatus.FAILURE
    adds_up = home.failure("adds_up")
    assert adds_up.asset_key == dg.AssetKey(["clean", "accounting"])
    rows = str(adds_up.metadata["failing rows"].value)
    assert "b.csv" in rows and "a.csv" not in rows
    assert "clean/accounting" in home.materialized


def test_a_row_lost_behind_the_accountings_back_stops_what_is_handed_on(without_a_row: tuple[Home, int]) -> None:
    home, _ = without_a_row
    assert CHANGE_DATA not in home.materialized


@at_length
def test_a_rebuild_goes_on_without_a_row_that_was_lost(home: Home) -> None:
    home.execute(LOST)
    assert home.sync(rebuild=True) == DONE, home.told
    assert home.failed == []
    assert CHANGE_DATA in home.materialized
    assert home.rows("select count(*) from core.v_customer_change_data") == [(3,)]


def test_a_row_staged_twice_stops_everything_after_staging(home: Home) -> None:
    home.execute("insert into staging.customers select * from staging.customers where _key like '%a.csv' and _row = 1")
    assert home.sync() == BLOCKED, home.told
    assert "a.csv" in str(home.failure("rows_stand_in_the_ledger").metadata["failing objects"].value)
    assert {name.split("/")[0] for name in home.materialized} == {"staging"}


def test_a_sync_is_of_what_has_something_new(home: Home, s3_endpoint: str) -> None:
    assert home.sync(everything=False) == DONE
    assert home.told == ["nothing new; c360 sync --all makes and checks everything all the same"]
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    new = {"Bucket": home.settings.bucket, "Key": "stream_data/customers/c.csv"}
    client.put_object(**new, Body=(HEADER + "carl,Oslo,2024-04-01T00:00:00Z,I\n").encode())
    try:
        assert home.sync(everything=False) == DONE, home.told
    finally:
        client.delete_object(**new)
    assert home.rows("select city from core.customer_history where customer_id = 'carl'") == [("Oslo",)]
    assert {"staging/customers", "core/customer_history", CHANGE_DATA} <= home.materialized
    assert home.materialized.isdisjoint({"staging/pos", "core/pos_line", "gold/daily_sales_summary"})


@at_length
def test_what_a_check_stopped_is_tried_again_by_the_next_sync(home: Home) -> None:
    home.execute(OVERLAP)
    assert home.sync() == BLOCKED
    assert home.sync(everything=False) == BLOCKED, home.told


def test_an_object_that_blocks_is_built_by_nobody_until_it_is_taken_as_it_is(
    home: Home, s3_endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also not by the run of another feed whose rows go into the same tables."""
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    dms = "Op,dms_timestamp,customer_id,city\nI,2024-05-01 00:00:00,dora,Rome\n"
    keys = {
        "stream_data/customers/empty.csv": HEADER + "".join(f"n{n},,2024-04-01T00:00:00Z,I\n" for n in range(25)),
        "stream_data/customers_dms/20240501-000000000.csv": dms,
    }
    for key, body in keys.items():
        client.put_object(Bucket=home.settings.bucket, Key=key, Body=body.encode())
    try:
        assert home.sync(everything=False) == BLOCKED, home.told
        assert home.failure("null_share_city").metadata["failing"].value == [
            "stream_data/customers/empty.csv: 25 of 25 rows have none"
        ]
        with local.dagster_instance(home.settings) as instance:
            job = build_defs(home.settings).resolve_job_def("customers_dms_batch")
            result = job.execute_in_process(instance=instance, raise_on_error=False)
        assert not result.success
        (failed,) = result.get_step_failure_events()
        assert "customers: null_share_city: stream_data/customers/empty.csv" in str(failed.step_failure_data.error)
        assert home.rows("select count(*) from core.customer where customer_id in ('n1', 'dora')") == [(0,)]

        with pytest.MonkeyPatch.context() as patch:
            for name, value in home.environment.items():
                patch.setenv(name, value)
            asked = ["quarantine", "release", "--feed", "customers", "--key", "empty.csv"]
            assert main(asked) == DONE, capfd.readouterr().err
        assert "stream_data/customers/empty.csv: taken as it is" in capfd.readouterr().err
        assert home.rows("select count(*) from core.customer where customer_id in ('n1', 'dora')") == [(2,)]
    finally:
        for key in keys:
            client.delete_object(Bucket=home.settings.bucket, Key=key)


@pytest.mark.parametrize(("blocks", "code"), [(False, DONE), (True, BLOCKED)])
def test_a_check_that_holds_nothing_up_ends_no_run(blocks: bool, code: int) -> None:
    """Old events make a feed's freshness fail, and everything of them is there."""

    @dg.asset
    def rows() -> None: ...

    @dg.asset_check(asset=rows, blocking=blocks)
    def are_fresh() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.ERROR)

    job = dg.Definitions([rows], asset_checks=[are_fresh]).resolve_implicit_global_asset_job_def()
    told: list[str] = []
    assert runs._told(job.execute_in_process(raise_on_error=False), told.append) == code
    assert told[0] == "check rows: are_fresh failed"
