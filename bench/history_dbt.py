"""The history engine in a dbt project of its own, run in a process and on a connection that stay warm.

The project has the repository's macros and profile, copied once (so that an edit meanwhile changes nothing), one log that is
materialized `scd2` with its companions as the customer's models have them, and a snapshot of dbt's own beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from bench.history_stream import ATTRIBUTES, Stream
from c360_assets.settings import PROJECT

LOG, SNAPSHOT = "bench_log", "bench_snapshot"
PROJECT_YML = """
name: c360
version: 1.0.0
config-version: 2
profile: c360
flags: {send_anonymous_usage_stats: false}
"""
MODELS_YML = """
sources:
  - name: bench
    schema: bench
    tables: [{{name: events}}, {{name: batch}}]
models:
  - name: bench_log
    config: {{meta: {{entity: {{name: bench, key: [customer_id], tracked: [{tracked}]}}}}}}
    columns: [{columns}]
"""
FILES = {
    "models/bench_log.sql": "{{ config(materialized='scd2') }}\nselect * from {{ source('bench', 'events') }}\n",
    "models/bench.sql": "{{ config(materialized='companion') }}\n{{ scd2_current('bench', ref('bench_log')) }}\n",
    "models/bench_ties.sql": "{{ config(materialized='companion') }}\n{{ scd2_all_ties('bench', ref('bench_log')) }}\n",
    "models/bench_history.sql": "{{ config(materialized='view') }}\n{{ scd2_history('bench', ref('bench_log')) }}\n",
    "snapshots/bench_snapshot.yml": """
snapshots:
  - name: bench_snapshot
    relation: source('bench', 'batch')
    config: {schema: peers, unique_key: customer_id, strategy: timestamp, updated_at: event_time}
""",
    "macros/open.sql": "{% macro open_database() %}{% do run_query('select 1') %}{% endmacro %}\n",
}
DBT = Path(sys.executable).with_name("dbt")


@dataclass
class Run:
    """One run of dbt: its wall time, and the watched node's statements by what they do, in order, in seconds."""

    wall: float = 0.0
    statements: list[tuple[str, float]] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0

    @property
    def judged(self) -> float:
        """The node's own statements, first to commit."""
        return sum(seconds for _, seconds in self.statements)

    @property
    def span(self) -> float:
        """From the start of the first statement to the end of the last: dbt's rendering of SQL between them included."""
        return self.last - self.first

    def profile(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, seconds in self.statements:
            found[name] = round(found.get(name, 0.0) + seconds, 4)
        return found


class Engine:
    """The project, its warehouse file, and dbt with the project parsed once."""

    def __init__(self, work: Path, memory: str) -> None:
        self.work = work
        self.path = work / "warehouse.duckdb"
        self.project = work / "project"
        self.memory = memory
        shutil.copytree(PROJECT / "dbt" / "macros", self.project / "macros")
        shutil.copy(PROJECT / "dbt" / "profiles.yml", self.project)
        columns = ", ".join(f"{{name: {c}, data_type: varchar}}" for c in ("customer_id", *ATTRIBUTES))
        declared = MODELS_YML.format(tracked=", ".join(ATTRIBUTES), columns=columns)
        for name, text in (FILES | {"dbt_project.yml": PROJECT_YML, "models/bench.yml": declared}).items():
            path = self.project / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self._manifest: Any = None

    @property
    def environment(self) -> dict[str, str]:
        return {"C360_DUCKDB_PATH": str(self.path), "C360_DUCKDB_MEMORY": self.memory}

    @property
    def _places(self) -> list[str]:
        return ["--project-dir", str(self.project), "--profiles-dir", str(self.project), "--target", "duckdb",
                "--target-path", str(self.work / "target"), "--log-path", str(self.work / "logs")]  # fmt: skip

    def fill(self, stream: Stream, kept: Path | None = None) -> None:
        """The events of the stream as the table `bench.events`, in a file that is closed then.

        With `kept`, a folder, the file is made there once and copied; on the disk by the time that something is measured.
        """
        if kept:
            made = kept / f"events-{stream.rows}-{stream.keys}.duckdb"
            if made.exists():
                shutil.copy(made, self.path)
                os.sync()
                return
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(f"set memory_limit = '{self.memory}'")
            connection.execute("set enable_progress_bar = false")
            connection.execute("create schema bench")
            # Halves, because DuckDB counts a range with one thread.
            half = stream.rows // 2
            parts = (stream.events(0, half), stream.events(half, stream.rows - half))
            connection.execute(f"create table bench.events as ({parts[0]}) union all ({parts[1]})")
        if kept:
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.path, made)

    def open(self) -> None:
        """Lets dbt open this engine's database, and let go of another."""
        self._invoke("run-operation", "open_database")

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the database that dbt holds open."""
        cursor = DuckDBConnectionManager.env().conn.cursor()  # type: ignore[attr-defined]
        try:
            yield cursor
        finally:
            cursor.close()

    def build(self, *arguments: str) -> Run:
        """`dbt build` of log, companions and history in this process; DuckDB stays open after it."""
        return self._invoke("build", "--exclude-resource-type", "snapshot", *arguments, watch=LOG)

    def snapshot(self) -> Run:
        return self._invoke("snapshot", watch=SNAPSHOT)

    def _invoke(self, *arguments: str, watch: str = "") -> Run:
        """dbt in this process.

        Raises:
            RuntimeError: with dbt's messages.
        """
        os.environ.update(self.environment)
        if self._manifest is None:
            self._manifest = dbtRunner().invoke(["--quiet", "parse", *self._places]).result
        run = Run()
        told: list[str] = []

        def listen(message: Any) -> None:
            if message.info.name not in ("SQLQuery", "SQLQueryStatus") or message.data.node_info.node_name != watch:
                return
            if message.info.name == "SQLQuery":
                told.append(label(message.data.sql))
                run.first = run.first or time.perf_counter()
            else:
                run.statements.append((told[-1], message.data.elapsed))
                run.last = time.perf_counter()

        before = time.perf_counter()
        done = dbtRunner(manifest=self._manifest, callbacks=[listen] if watch else []).invoke(
            ["--quiet", *arguments, *self._places]
        )
        run.wall = time.perf_counter() - before
        if not done.success:
            raise RuntimeError(str(done.exception or [(r.node.name, r.message) for r in done.result]))
        return run

    def command(self, *arguments: str) -> list[str]:
        """dbt as a command, to be run with `environment`."""
        return [str(DBT), "--quiet", *arguments, *self._places]

    def run_command(self, *arguments: str) -> float:
        """Seconds of dbt by command line. The database must not be open here."""
        before = time.perf_counter()
        ran = subprocess.run(
            self.command(*arguments), env=os.environ | self.environment, capture_output=True, text=True
        )
        if ran.returncode != 0:
            raise RuntimeError(ran.stdout + ran.stderr)
        return time.perf_counter() - before

    def build_by_command(self) -> float:
        return self.run_command("build", "--exclude-resource-type", "snapshot")

    @contextmanager
    def alone(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The database for a moment, while dbt does not hold it."""
        with duckdb.connect(str(self.path)) as connection:
            yield connection

    def close(self) -> None:
        """Lets go of the file; DuckDB makes its checkpoint."""
        if DuckDBConnectionManager._ENV is not None:
            DuckDBConnectionManager._ENV.close()
        DuckDBConnectionManager.close_all_connections()


def label(sql: str) -> str:
    """What a statement does and to which table: `update bench_log`."""
    sql = re.sub(r"/\*.*?\*/", "", sql, flags=re.DOTALL)
    sql = " ".join(re.sub(r"--[^\n]*", "", sql).split())
    written = re.match(
        r"(create(?: or replace)?(?: temp| temporary)? (?:table|view)(?: if not exists)?|insert into|delete from|update"
        r"|merge into|drop (?:table|view)(?: if exists)?|alter table|truncate table)\s+([\w\".]+)",
        sql,
        re.IGNORECASE,
    )
    if not written:
        return sql[:80]
    does = re.sub("create or replace temp(orary)? table", "work table", written[1].lower())
    return f"{does} {written[2].replace(chr(34), '').split('.')[-1]}"
