"""What tests share: the pipe with a warm dbt, and tables as comparable values."""

from __future__ import annotations

import hashlib
import json
import os
import pprint
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.artifacts.resources import FileHash
from dbt.cli.main import dbtRunner
from jinja2 import Environment

from c360_assets import pending, registers, staging, transform
from c360_assets.feeds import Feed, load_feeds
from c360_assets.landing import Bucket
from c360_assets.local import free_port as free_port
from c360_assets.pending import Lineage
from c360_assets.settings import PROJECT, Settings
from c360_assets.snowflake.warehouse import SnowflakeWarehouse, plan_database
from c360_assets.staging import Loaded
from c360_assets.warehouse import Warehouse, open_warehouse
from tests.emulator import fakesnow_of_process, on_fakesnow

Row = tuple[Any, ...]
UNIT_TESTS = "unit_test"
# Nothing, snowflake (which the tests of the platform then run on, as fakesnow is), or both: the long comparisons of the two.
TEST_WAREHOUSE = os.environ.get("TEST_WAREHOUSE", "")
ON_SNOWFLAKE = TEST_WAREHOUSE == "snowflake"
minutes_long = pytest.mark.skipif(not os.environ.get("C360_CHAOS"), reason="takes minutes: make chaos runs it")
at_length = pytest.mark.skipif(
    not os.environ.get("C360_PROOF"), reason="another of its kind is run: make prove runs it"
)
on_both = pytest.mark.skipif(TEST_WAREHOUSE != "both", reason="takes minutes: make snowflake runs it")
on_duckdb = pytest.mark.skipif(ON_SNOWFLAKE, reason="is about DuckDB, or compares it with Snowflake")


def seeds(count: int) -> pytest.MarkDecorator:
    """Rounds of a random test: one, and with C360_PROOF as many as these."""
    return pytest.mark.parametrize("seed", range(1, 1 + (count if os.environ.get("C360_PROOF") else 1)))


def lacking(what: str) -> pytest.MarkDecorator:
    """Snowflake has it and fakesnow has not: docs/snowflake.md lists it among what was not run."""
    return pytest.mark.skipif(ON_SNOWFLAKE, reason=f"fakesnow has no {what}")


_MANIFESTS: dict[tuple[Path, str, str], tuple[Any, dict[str, Any]]] = {}  # as dbt takes it, and as it is written
_EMPTY: dict[Path, Path] = {}
_READ: dict[tuple[Path, str, str], Path] = {}  # where what dbt has read is kept
MANIFEST, PARSED = "manifest.json", "partial_parse.msgpack"
_WORK = Path(tempfile.mkdtemp(prefix="c360-tests-"))
ANY_FILE = {"C360_DUCKDB_PATH": str(_WORK / "warehouse.duckdb")}


def settings_at(home: Path, **more: str) -> Settings:
    """Settings of a home of the test's own: on DuckDB, or with TEST_WAREHOUSE=snowflake on fakesnow."""
    stated = {"C360_HOME": str(home)} | more
    return Settings.load(stated | (on_fakesnow(fakesnow_of_process()) if ON_SNOWFLAKE else {}))


def command_environment(
    home: Path, bucket: Bucket, endpoint: str, warehouse: Warehouse | None = None
) -> dict[str, str]:
    """The environment in which a command finds its home, the test's bucket and, on Snowflake, the warehouse.

    The secret is nobody's.
    """
    reached = {}
    if isinstance(warehouse, SnowflakeWarehouse):
        reached = {"C360_WAREHOUSE": "snowflake"} | warehouse.dbt_environment()
    return (
        os.environ
        | reached
        | {
            "C360_HOME": str(home),
            "C360_BUCKET": bucket.name,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "t",
            "AWS_SECRET_ACCESS_KEY": "t",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    )


class BuildFailed(AssertionError):
    """dbt did not succeed; `failed` names the nodes that failed, tests among them."""

    def __init__(self, failed: list[str], text: str) -> None:
        super().__init__(text)
        self.failed = failed


def manifest_of(warehouse: Warehouse, project: Path) -> tuple[Any, dict[str, Any]]:
    """The project parsed for the warehouse's target, once in this process: as dbt takes it, and as it is written.

    Raises:
        BuildFailed: if it cannot be read.
    """
    environment = warehouse.dbt_environment()
    # The database's name stands in the manifest.
    parsed_for = (project, warehouse.target, environment.get("SNOWFLAKE_DATABASE", ""))
    if parsed_for not in _MANIFESTS:
        # Whose file it is stands nowhere in it. Never by what dbt has read of another project: it misses what differs.
        with _environment(environment | ANY_FILE):
            parsed = dbtRunner().invoke(["--quiet", "--no-partial-parse", "parse", *_places(warehouse, project)])
        if not parsed.success:
            raise BuildFailed([], str(parsed.exception))
        folder = _WORK / warehouse.target
        written = json.loads((folder / "manifest.json").read_text())
        _MANIFESTS[parsed_for] = parsed.result, written
        _READ[parsed_for] = shutil.copytree(
            folder, tempfile.mkdtemp(dir=_WORK), dirs_exist_ok=True, ignore=_but_what_is_read
        )
    return _MANIFESTS[parsed_for]


def _but_what_is_read(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name not in (MANIFEST, PARSED)]


def read_already(settings: Settings, project: Path | None = None) -> Settings:
    """A home that finds the project read, as by a run before: to read it takes longer than most of what is tested.

    What dbt has read it takes for its own only where it was read for the same file: that stands in it as a hash.
    """
    project, warehouse = project or settings.dbt_project, open_warehouse(settings)
    home = settings.dbt_home / warehouse.target
    if ON_SNOWFLAKE or home.exists():
        return settings
    manifest, _ = manifest_of(warehouse, project)
    shutil.copytree(_READ[project, warehouse.target, ""], home, dirs_exist_ok=True)
    ours, theirs = (_profile_hash(project, warehouse.dbt_environment() | more) for more in (ANY_FILE, {}))
    assert ours == manifest.state_check.profile_hash.checksum
    (home / PARSED).write_bytes((home / PARSED).read_bytes().replace(ours.encode(), theirs.encode()))
    (home / transform.FINGERPRINT).write_text(transform.fingerprint_of(project))
    return settings


def _profile_hash(project: Path, environment: Mapping[str, str]) -> str:
    """As dbt makes it of the profile."""
    rendering = Environment()
    rendering.filters["as_number"] = int
    text = rendering.from_string((project / "profiles.yml").read_text()).render(env_var=environment.get)
    profile = yaml.safe_load(text)["c360"]["outputs"]["duckdb"]
    credentials = DuckDBCredentials.from_dict({name: value for name, value in profile.items() if name != "type"})
    return str(FileHash.from_contents(pprint.pformat(sorted(credentials.connection_info()))).checksum)


def dbt_build(warehouse: Warehouse, project: Path = PROJECT / "dbt", *arguments: str) -> list[str]:
    """`dbt build` in this process on the warehouse; the names of what was built and tested.

    Raises:
        BuildFailed: if a model or test failed.
    """
    manifest, _ = manifest_of(warehouse, project)
    if isinstance(warehouse, SnowflakeWarehouse):
        # Imported here: the connector takes a second to import, which tests on DuckDB need not pay.
        from c360_assets.snowflake import patience

        patience.limit(**warehouse.connection_arguments)
    with _environment(warehouse.dbt_environment()):
        try:
            with warehouse.held("dbt in a test"):
                # Unit tests of models have a test of their own: they prove the SQL, not the data.
                asked = arguments if UNIT_TESTS in arguments else (*arguments, "--exclude-resource-type", UNIT_TESTS)
                # Nobody reads the artifacts here, and to write them takes a sixth of the time.
                built = dbtRunner(manifest=manifest).invoke(
                    ["--quiet", "--no-write-json", "build", *asked, *_places(warehouse, project)]
                )
        finally:
            # Else this process keeps DuckDB's lock on the file.
            DuckDBConnectionManager.close_all_connections()
    if built.exception is not None:
        raise BuildFailed([], str(built.exception))
    failed = [r for r in built.result if r.status not in ("success", "pass", "warn", "skipped")]
    if failed:
        raise BuildFailed([r.node.name for r in failed], "\n".join(f"{r.node.name}: {r.message}" for r in failed))
    return [r.node.name for r in built.result if r.status != "skipped"]


def analyses(warehouse: Warehouse, project: Path) -> dict[str, str]:
    """{name: compiled SQL} of the project's analyses.

    Raises:
        BuildFailed: if one cannot be compiled.
    """
    manifest, _ = manifest_of(warehouse, project)
    with _environment(warehouse.dbt_environment()):
        try:
            compiled = dbtRunner(manifest=manifest).invoke(
                [
                    "--quiet",
                    "--no-write-json",
                    "compile",
                    "--select",
                    "resource_type:analysis",
                    *_places(warehouse, project),
                ]
            )
        finally:
            DuckDBConnectionManager.close_all_connections()
    if not compiled.success:
        raise BuildFailed([], str(compiled.exception))
    return {r.node.name: r.node.compiled_code for r in compiled.result}


def _places(warehouse: Warehouse, project: Path) -> list[str]:
    return ["--project-dir", str(project), "--profiles-dir", str(project), "--target", warehouse.target,
            "--target-path", str(_WORK / warehouse.target), "--log-path", str(_WORK), "--log-level-file", "none"]  # fmt: skip


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield


def forget_manifest(project: Path) -> None:
    """A file of the project has changed."""
    for parsed_for in [key for key in _MANIFESTS if key[0] == project]:
        del _MANIFESTS[parsed_for]


class Platform:
    """S3 to gold without Dagster around it, for tests of what the tables hold; without a project named, without the shop."""

    def __init__(
        self, settings: Settings, bucket: Bucket, *, project: Path | None = None, warehouse: Warehouse | None = None
    ) -> None:
        self.settings = settings
        self.bucket = bucket
        self.project = project or without_shop()
        self.feeds: dict[str, Feed] = load_feeds([self.project / "models" / "staging"])
        self.warehouse = warehouse or open_warehouse(settings)

    def begin(self) -> Platform:
        """A home where every table is, and empty: what a first build leaves, made once in this process and copied."""
        if ON_SNOWFLAKE:
            self.build(checked=False)
            return self
        if self.project not in _EMPTY:
            first = Platform(
                replace(self.settings, home=Path(tempfile.mkdtemp(dir=_WORK))), self.bucket, project=self.project
            )
            first.build()
            _EMPTY[self.project] = first.settings.duckdb_path
        self.settings.home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_EMPTY[self.project], self.settings.duckdb_path)
        return self

    def put(self, name: str, body: bytes, feed: str = "customers", mtime: str | None = None) -> str:
        """An object under the feed's prefix; returns its key."""
        key = self.bucket.folder(self.feeds[feed]) + name
        self.bucket.client.put_object(
            Bucket=self.bucket.name, Key=key, Body=body, Metadata={"mtime": mtime} if mtime else {}
        )
        return key

    def load(
        self, feed: str = "customers", *, objects: int = 500, size: int = 1 << 30, batches: int | None = None
    ) -> Loaded:
        return staging.load_new(
            self.feeds[feed],
            self.bucket,
            self.warehouse,
            self.settings.spool,
            objects=objects,
            size=size,
            batches=batches,
        )

    def build(self, *arguments: str, checked: bool = True) -> list[str]:
        """`dbt build` with the arguments; without any, of what has something new, as a sync does it.

        Not `checked`: without the tests, most of what takes its time on fakesnow, where there are no rows yet.
        """
        with self.warehouse.writing("test") as session:
            registers.prepare_tables(session, list(self.feeds.values()))
            pending.prepare_marks(session)
            if arguments:
                tables = None
            else:
                _, manifest = manifest_of(self.warehouse, self.project)
                lineage = Lineage.read(manifest, transform.fingerprint_of(self.project), self.feeds)
                newest = pending.newest_batches(session)
                news = pending.unbuilt_feeds(session, lineage, self.feeds.keys())
                tables = lineage.made_of(news)
                # What fails is to be built again.
                pending.forget_built(session, news)
        if tables is None:
            return dbt_build(self.warehouse, self.project, *arguments)
        if not tables:
            return []
        chosen = [] if tables == lineage.feeds_of.keys() else ["--select", *(t.split(".")[1] for t in sorted(tables))]
        unchecked = () if checked else ("--exclude-resource-type", "test")
        built = dbt_build(self.warehouse, self.project, *chosen, *unchecked)
        with self.warehouse.writing("test") as session:
            pending.note_built(session, lineage.project, {feed: newest.get(feed, "") for feed in news})
        return built

    def build_all(self) -> list[str]:
        """Everything with every test, new or not."""
        return self.build("--select", "*")

    def sync(self, feed: str = "customers", **limits: int) -> Loaded:
        """Load and build, tests included."""
        loaded = self.load(feed, **limits)
        self.build()
        return loaded

    def rows(self, sql: str) -> list[Row]:
        """What a query gives. fakesnow does not know `order by all`."""
        asked = sql.removesuffix("order by all") if ON_SNOWFLAKE else sql
        with self.warehouse.reading() as session:
            found = session.rows(asked)
        return found if asked == sql else sorted(found, key=lambda row: [(value is None, value) for value in row])

    def table(self, name: str, where: str = "true") -> list[dict[str, Any]]:
        """Every row of `schema.table`."""
        with self.warehouse.reading() as session:
            columns, rows = session.result(f"select * from {name} where {where}")
            return [dict(zip(columns, row, strict=True)) for row in rows]

    def prepare_plans(self) -> None:
        """What `bootstrap` makes on Snowflake: the database in which a run is rehearsed."""
        if isinstance(self.warehouse, SnowflakeWarehouse):
            with self.warehouse.writing("test") as session:
                session.execute(f"create database {plan_database(self.settings.snowflake)}")

    def command(self, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`c360 ...` in a process of its own, as a person runs it."""
        environment = command_environment(self.settings.home, self.bucket, endpoint, self.warehouse)
        read_already(self.settings, self.project)
        return subprocess.run(
            [Path(sys.executable).with_name("c360"), *arguments],
            env=environment | {"C360_DBT_PROJECT": str(self.project)},
            capture_output=True,
            text=True,
        )

    def digest(self, entity: str = "customer") -> dict[str, str]:
        """One hash per public table of the entity, over its ordered rows."""
        tables = (entity, f"{entity}_history", f"{entity}_ties")
        return {table: digest([tuple(row.values()) for row in self.table(f"core.{table}")]) for table in tables}


def project_with(folder: Path, files: dict[str, str], *, shop: bool = False) -> Path:
    """A copy of the dbt project with further files {path below it: text}; without the shop it is half as large."""
    project = folder / "dbt"
    shutil.copytree(PROJECT / "dbt", project)
    if not shop:
        _without_shop(project)
    for name, text in files.items():
        (project / name).write_text(text)
    return project


@cache
def without_shop() -> Path:
    """The project without the shop, one for this process."""
    return project_with(_WORK, {})


# Entities of the shop, the feeds that state them, and what is made of these.
_SHOP = {
    "category": "categories",
    "shop_order": "orders",
    "order_item": "order_items",
    "shop_transaction": "transactions",
    "support_ticket": "support_tickets",
    "stock_count": "stock_counts",
}
_CLICKS = {"click": "clickstream"}
_GOLD_OF_TILLS = ("gold.yml", "daily_sales_sources.sql", "daily_sales_summary.sql")


def _without_shop(project: Path) -> None:
    models, settings = project / "models", project / "dbt_project.yml"
    for folder in ("analyses", "models/vault", "tests/vault"):
        shutil.rmtree(project / folder)
    for entity, feed in (_SHOP | _CLICKS).items():
        (models / "staging" / f"{feed}.yml").unlink()
        for path in (*models.glob(f"*/{entity}.*"), *models.glob(f"*/{entity}_*.sql")):
            path.unlink()
    stock = [models / "core" / name for name in ("inventory.sql", "inventory.yml")]
    for path in (*stock, *(models / "gold").iterdir()):
        if path.name not in _GOLD_OF_TILLS:
            path.unlink()
    text = settings.read_text()
    for listed, left in ((f", {', '.join(_SHOP)}]", "]"), (f"[{', '.join(_CLICKS)}]", "[]")):
        assert listed in text, f"dbt_project.yml lists no {listed}"
        text = text.replace(listed, left)
    settings.write_text(text)


def digest(rows: Sequence[Row]) -> str:
    return hashlib.sha256("\n".join(sorted(repr(row) for row in rows)).encode()).hexdigest()
