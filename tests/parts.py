"""What tests share: the pipe with a warm dbt, and tables as comparable values."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from c360_assets import staging
from c360_assets.feeds import Feed, load_feeds
from c360_assets.landing import Bucket
from c360_assets.settings import PROJECT, Settings
from c360_assets.staging import Loaded
from c360_assets.warehouse import Warehouse, open_warehouse

Row = tuple[Any, ...]
UNIT_TESTS = "unit_test"

_MANIFESTS: dict[tuple[Path, str, str], Any] = {}
_WORK = Path(tempfile.mkdtemp(prefix="c360-tests-"))


class BuildFailed(AssertionError):
    """dbt did not succeed; `failed` names the nodes that failed, tests among them."""

    def __init__(self, failed: list[str], text: str) -> None:
        super().__init__(text)
        self.failed = failed


def dbt_build(warehouse: Warehouse, project: Path = PROJECT / "dbt", *arguments: str) -> list[str]:
    """`dbt build` in this process on the warehouse; the names of what was built and tested.

    Raises:
        BuildFailed: if a model or test failed.
    """
    environment = warehouse.dbt_environment()
    parsed_for = (
        project,
        warehouse.target,
        environment.get("SNOWFLAKE_DATABASE", ""),
    )  # its name stands in the manifest
    manifest = _MANIFESTS.get(parsed_for)
    before = dict(os.environ)
    os.environ.update(environment)
    places = ["--project-dir", str(project), "--profiles-dir", str(project), "--target", warehouse.target,
              "--target-path", str(_WORK / warehouse.target), "--log-path", str(_WORK), "--log-level-file", "none"]  # fmt: skip
    try:
        if manifest is None:
            parsed = dbtRunner().invoke(["--quiet", "parse", *places])
            if not parsed.success:
                raise BuildFailed([], str(parsed.exception))
            manifest = _MANIFESTS[parsed_for] = parsed.result
        with warehouse.held("dbt in a test"):
            # Unit tests of models have a test of their own: they prove the SQL, not the data.
            asked = arguments if UNIT_TESTS in arguments else (*arguments, "--exclude-resource-type", UNIT_TESTS)
            built = dbtRunner(manifest=manifest).invoke(["--quiet", "build", *asked, *places])
    finally:
        # Else this process keeps DuckDB's lock on the file.
        DuckDBConnectionManager.close_all_connections()
        for name in environment:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
    if built.exception is not None:
        raise BuildFailed([], str(built.exception))
    failed = [r for r in built.result if r.status not in ("success", "pass", "warn", "skipped")]
    if failed:
        raise BuildFailed([r.node.name for r in failed], "\n".join(f"{r.node.name}: {r.message}" for r in failed))
    return [r.node.name for r in built.result if r.status != "skipped"]


def forget_manifest(project: Path) -> None:
    """A file of the project has changed."""
    for parsed_for in [key for key in _MANIFESTS if key[0] == project]:
        del _MANIFESTS[parsed_for]


class Platform:
    """S3 to core without Dagster around it, for tests of what the tables hold."""

    def __init__(
        self, settings: Settings, bucket: Bucket, *, project: Path = PROJECT / "dbt", warehouse: Warehouse | None = None
    ) -> None:
        self.settings = settings
        self.bucket = bucket
        self.project = project
        self.feeds: dict[str, Feed] = load_feeds([project / "models" / "staging"])
        self.warehouse = warehouse or open_warehouse(settings)

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

    def build(self, *arguments: str) -> list[str]:
        with self.warehouse.writing("test") as session:
            staging.prepare_tables(session, list(self.feeds.values()))
        return dbt_build(self.warehouse, self.project, *arguments)

    def sync(self, feed: str = "customers", **limits: int) -> Loaded:
        """Load and build, tests included."""
        loaded = self.load(feed, **limits)
        self.build()
        return loaded

    def rows(self, sql: str) -> list[Row]:
        with self.warehouse.reading() as session:
            return session.rows(sql)

    def table(self, name: str, where: str = "true") -> list[dict[str, Any]]:
        """Every row of `schema.table`. Times travel as text: fakesnow hands out a null time among others as 1970."""
        schema, table = name.split(".")
        with self.warehouse.reading() as session:
            columns = session.rows(
                "select lower(column_name), lower(data_type) like 'timestamp%' from information_schema.columns "
                f"where lower(table_schema) = '{schema}' and lower(table_name) = '{table}' order by ordinal_position"
            )
            shown = ", ".join(f"cast({c} as varchar)" if is_time else c for c, is_time in columns)
            found = session.rows(f"select {shown} from {name} where {where}")
        return [
            {
                column: datetime.fromisoformat(value) if is_time and value is not None else value
                for (column, is_time), value in zip(columns, row, strict=True)
            }
            for row in found
        ]

    def digest(self, entity: str = "customer") -> dict[str, str]:
        """One hash per public table of the entity, over its ordered rows."""
        tables = (entity, f"{entity}_history", f"{entity}_ties")
        return {table: digest([tuple(row.values()) for row in self.table(f"core.{table}")]) for table in tables}


def project_with(folder: Path, files: dict[str, str]) -> Path:
    """A copy of the dbt project with further files {path below it: text}."""
    project = folder / "dbt"
    shutil.copytree(PROJECT / "dbt", project)
    for name, text in files.items():
        (project / name).write_text(text)
    return project


def digest(rows: Sequence[Row]) -> str:
    return hashlib.sha256("\n".join(sorted(repr(row) for row in rows)).encode()).hexdigest()
