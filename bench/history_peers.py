"""Other tools on the history that the engine has, with the same batches: what a batch costs them, and how much of it they get right.

Every tool starts from the right history, as its own table would hold it, and takes the last row of each key in the batch (several of
one key they cannot take). A delete comes as a row that says so, and what it opens is left out of the comparison: so the
tools without deletes are not blamed for them. Judged by windows over all events of the keys that the batches touched.

Two ways of timing: the tool's own SQL statements in a process that is warm, and its command by the command line. SQLMesh and
dlt run in an environment of their own, `.venv-peers`, which is made here when it is missing: SQLMesh pins another sqlglot, and
a DuckDB below 2; it is given ours all the same, so that one engine runs everything.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb

from bench.history_bench import Bench, say
from bench.history_dbt import SNAPSHOT, Run
from bench.history_right import RIGHT, SHOWN, verdict
from bench.history_stream import ATTRIBUTES
from bench.parts import side_by_side
from c360_assets.settings import PROJECT

VENV = PROJECT / ".venv-peers"
PACKAGES = ("sqlmesh==0.236.4", "dlt[duckdb]==1.31.0", "pyarrow==26.0.1")
WARM, COMMANDS = 4, 2  # the first warm batch is not counted
SETTINGS = {"checkpoint_threshold": "256MB", "preserve_insertion_order": "false"}  # as the platform's profile

# The last row of each key in a batch.
BATCH_ROWS = f"""
select customer_id, {SHOWN}, op, content, event_time
from bench.events
where _batch = '{{batch}}'
qualify row_number() over (partition by customer_id order by event_time desc, op, content desc) = 1
"""

# The MERGE that the earlier systems had: the current version is ended where it differs, the new one is added.
MERGE = (
    """
    merge into peers.merged as h using bench.batch as b
    on h.customer_id = b.customer_id and h.valid_to is null
    when matched and h.content <> b.content then update set valid_to = b.event_time
    """,
    f"""
    insert into peers.merged
    select customer_id, {SHOWN}, content, event_time, null from bench.batch as b
    where op = 'upsert' and not exists (
        select 1 from peers.merged as h
        where h.customer_id = b.customer_id and h.valid_to is null and h.content = b.content
    )
    """,
)


class Peers:
    """The files that the tools exchange, and what was found of each."""

    def __init__(self, bench: Bench, work: Path) -> None:
        self.bench = bench
        self.engine = bench.engine
        self.folder = work / "peers"
        self.folder.mkdir()
        self.before = self.folder / "before.parquet"
        self.batches: list[Path] = []
        self.found: dict[str, dict[str, Any]] = {}

    def ours(self) -> None:
        """The engine first: what it has before the batches is what the others start from."""
        bench, engine = self.bench, self.engine
        engine.open()
        with engine.cursor() as cursor:
            _copy(
                cursor,
                f"select customer_id, {SHOWN}, content, version_from as valid_from, next_at as valid_to from core.bench_log where is_version",
                self.before,
            )
        bench.forget()
        bench.batches(WARM - 1)
        found = bench.batch_results()
        commands = bench.by_command(COMMANDS)
        with engine.alone() as connection:
            names = connection.execute(
                "select distinct _batch from bench.events where _batch like 'later-%' order by 1 desc limit ?",
                [WARM + COMMANDS],
            ).fetchall()
            for (name,) in reversed(names):
                self.batches.append(self.folder / f"{name}.parquet")
                _copy(connection, BATCH_ROWS.format(batch=name), self.batches[-1])
            batches = ", ".join(f"'{name}'" for (name,) in names)
            connection.execute(
                f"create temp table touched as select distinct customer_id from bench.events where _batch in ({batches})"
            )
            _copy(connection, RIGHT, self.folder / "right.parquet")
            self._export(connection, "core.bench_history", "c360")
        self.floor = found["floor s"]
        self.found["c360"] = {
            "statements s": found["judged s"],
            "warm, in process s": found["wall by dbtRunner s"],
            "command line s": statistics.median(commands),
        }

    def _export(self, connection: duckdb.DuckDBPyConnection, history: str, tool: str) -> None:
        """Of a tool's history: the keys that were touched."""
        _copy(
            connection,
            f"""
            select customer_id, {SHOWN}, cast(valid_from as timestamp) as valid_from, cast(valid_to as timestamp) as valid_to
            from {history}
            where customer_id in (select customer_id from '{self.folder}/right.parquet' union select customer_id from read_parquet({[str(b) for b in self.batches]}))
            """,
            self.folder / f"{tool}.parquet",
        )

    def _batch_table(self, connection: duckdb.DuckDBPyConnection, batch: Path, *, empty: bool = False) -> None:
        connection.execute(f"create or replace table bench.batch as from '{batch}' {'limit 0' if empty else ''}")

    def snapshot(self) -> None:
        """dbt's own snapshot, strategy timestamp, in the same project and warehouse."""
        engine = self.engine
        engine.open()
        with engine.cursor() as cursor:
            self._batch_table(cursor, self.batches[0], empty=True)
        engine.snapshot()
        runs: list[Run] = []
        with engine.cursor() as cursor:
            cursor.execute(
                f"""
                insert into peers.{SNAPSHOT} by name
                select
                    customer_id, {SHOWN}, 'upsert' as op, content, valid_from as event_time, md5(customer_id || '|' || valid_from) as dbt_scd_id,
                    valid_from as dbt_updated_at, valid_from as dbt_valid_from, valid_to as dbt_valid_to
                from '{self.before}'
                """
            )
            cursor.execute("checkpoint")
        for batch in self.batches[:WARM]:
            with engine.cursor() as cursor:
                self._batch_table(cursor, batch)
            runs.append(engine.snapshot())
        engine.close()
        commands = []
        for batch in self.batches[WARM:]:
            with engine.alone() as connection:
                self._batch_table(connection, batch)
            commands.append(engine.run_command("snapshot"))
        with engine.alone() as connection:
            self._export(
                connection,
                f"(select *, dbt_valid_from as valid_from, dbt_valid_to as valid_to from peers.{SNAPSHOT} where op = 'upsert')",
                "dbt snapshot",
            )
            connection.execute(f"drop table peers.{SNAPSHOT}")
        self._note("dbt snapshot", [r.judged for r in runs], [r.wall for r in runs], commands)

    def merge(self) -> None:
        """The plain MERGE, in the same warehouse; its command line is a Python that opens, merges and closes."""
        engine = self.engine
        engine.open()
        with engine.cursor() as cursor:
            cursor.execute("create schema if not exists peers")
            cursor.execute(
                f"create table peers.merged as select customer_id, {SHOWN}, content, valid_from, valid_to from '{self.before}'"
            )
            cursor.execute("checkpoint")
            seconds = []
            for batch in self.batches[:WARM]:
                self._batch_table(cursor, batch)
                start = time.perf_counter()
                for statement in ("begin", *MERGE, "commit"):
                    cursor.execute(statement)
                seconds.append(time.perf_counter() - start)
        engine.close()
        script = "import duckdb, sys\nwith duckdb.connect(sys.argv[1]) as c:\n  for sql in sys.argv[2:]: c.execute(sql)"
        commands = []
        for batch in self.batches[WARM:]:
            with engine.alone() as connection:
                self._batch_table(connection, batch)
            commands.append(_timed([sys.executable, "-c", script, str(engine.path), "begin", *MERGE, "commit"]))
        with engine.alone() as connection:
            self._export(connection, "peers.merged", "plain MERGE")
            connection.execute("drop table peers.merged")
        self._note("plain MERGE", seconds, seconds, commands)

    def sqlmesh(self) -> None:
        """SQLMesh, SCD_TYPE_2_BY_TIME. Before each run its state is set back, so that an interval is due."""
        folder = self.folder / "sqlmesh"
        (folder / "models").mkdir(parents=True)
        database = folder / "peer.duckdb"
        settings = (
            "{" + ", ".join(f"{k}: '{v}'" for k, v in SETTINGS.items()) + f", memory_limit: {self.engine.memory}}}"
        )
        (folder / "config.yaml").write_text(
            f"gateways: {{local: {{connection: {{type: duckdb, database: {database}, connector_config: {settings}}}}}}}\n"
            "default_gateway: local\nmodel_defaults: {dialect: duckdb, start: 2025-01-01}\ndisable_anonymized_analytics: true\n"
        )
        (folder / "models" / "history.sql").write_text(
            f"""
MODEL (
  name bench.history,
  kind SCD_TYPE_2_BY_TIME (
    unique_key customer_id, updated_at_name event_time, updated_at_as_valid_from true, invalidate_hard_deletes false
  ),
  cron '@daily'
);
select customer_id::text, {", ".join(f"{c}::text" for c in ATTRIBUTES)}, op::text, event_time::timestamp from bench.batch
"""
        )
        with duckdb.connect(str(database)) as connection:
            connection.execute("create schema bench")
            self._batch_table(connection, self.batches[0], empty=True)
        command = [str(VENV / "bin" / "sqlmesh"), "-p", str(folder)]
        _timed([*command, "plan", "--auto-apply", "--no-prompts"])
        with duckdb.connect(str(database)) as connection:
            ((table,),) = connection.execute(
                "select table_name from information_schema.tables where table_schema = 'sqlmesh__bench'"
            ).fetchall()
            connection.execute(
                f"""
                insert into sqlmesh__bench.{table} by name
                select customer_id, {SHOWN}, 'upsert' as op, valid_from as event_time, valid_from, valid_to from '{self.before}'
                """
            )
        warm = self._in_its_own("peer_sqlmesh.py", str(folder), *map(str, self.batches[:WARM]))
        commands = []
        for batch in self.batches[WARM:]:
            with duckdb.connect(str(database)) as connection:
                self._batch_table(connection, batch)
                # The first day is done, the rest is due.
                connection.execute("update sqlmesh._intervals set end_ts = start_ts + 86400000")
                connection.execute(
                    "delete from sqlmesh._intervals where start_ts > (select min(start_ts) from sqlmesh._intervals)"
                )
            commands.append(_timed([*command, "run", "--ignore-cron"]))
        with duckdb.connect(str(database)) as connection:
            self._export(connection, "(select * from bench.history where op = 'upsert')", "SQLMesh")
        shutil.rmtree(folder)
        self._note("SQLMesh", [w["statements"] for w in warm], [w["wall"] for w in warm], commands)

    def dlt(self) -> None:
        """dlt, merge strategy scd2. It knows one instant for a whole load: it is told the last of the batch."""
        folder = self.folder / "dlt"
        folder.mkdir()
        database = folder / "peer.duckdb"
        self._in_its_own("peer_dlt.py", str(folder), str(self.batches[0]))
        with duckdb.connect(str(database)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("delete from peers.history")
            connection.execute(
                f"""
                insert into peers.history by name
                select customer_id, {SHOWN}, 'upsert' as op, md5(customer_id || 'upsert' || content) as row_version, valid_from, valid_to
                from '{self.before}'
                """
            )
        warm = self._in_its_own("peer_dlt.py", str(folder), *map(str, self.batches[:WARM]))
        commands = [
            _timed([str(VENV / "bin" / "python"), str(PROJECT / "bench" / "peer_dlt.py"), str(folder), str(batch)])
            for batch in self.batches[WARM:]
        ]
        with duckdb.connect(str(database)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            self._export(connection, "(select * from peers.history where op = 'upsert')", "dlt scd2")
        shutil.rmtree(folder)
        self._note("dlt scd2", [w["statements"] for w in warm], [w["wall"] for w in warm], commands)

    def _in_its_own(self, script: str, *arguments: str) -> list[dict[str, float]]:
        """What the script in the environment of the peers says of each batch."""
        done = subprocess.run(
            [VENV / "bin" / "python", PROJECT / "bench" / script, *arguments],
            capture_output=True, text=True, env=os.environ | {"BENCH_MEMORY": self.engine.memory},
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def _note(self, tool: str, statements: list[float], walls: list[float], commands: list[float]) -> None:
        self.found[tool] = {
            "statements s": round(statistics.median(statements[1:]), 4),
            "warm, in process s": round(statistics.median(walls[1:]), 3),
            "command line s": round(statistics.median(commands), 2),
        }
        say(f"{tool}: {self.found[tool]}")


def compare(bench: Bench, work: Path) -> dict[str, Any]:
    """Every tool's times and its share of wrong keys; the engine's as `c360`."""
    _environment()
    peers = Peers(bench, work)
    peers.ours()
    for measure in (peers.merge, peers.snapshot, peers.dlt, peers.sqlmesh):
        measure()
    for tool, result in peers.found.items():
        result |= verdict(peers.folder / f"{tool}.parquet", peers.folder / "right.parquet", peers.batches)
    shutil.rmtree(peers.folder)
    ours = peers.found["c360"]
    for result in peers.found.values():
        result["statements / floor"] = round(result["statements s"] / peers.floor, 1)
        result["against ours"] = {
            "statements / statements": round(result["statements s"] / ours["statements s"], 2),
            "warm / warm": round(result["warm, in process s"] / ours["warm, in process s"], 2),
            "command line / command line": round(result["command line s"] / ours["command line s"], 2),
            "command line / our statements": round(result["command line s"] / ours["statements s"], 1),
        }
    return {"floor s": peers.floor, "warm batches": WARM - 1, "by command line": COMMANDS, "tools": peers.found}


def plot(found: dict[str, Any], rows: int) -> None:
    ways = ("statements s", "warm, in process s", "command line s")
    side_by_side(
        "history_peers",
        f"A batch of 10,000 events on {rows:,}: seconds, and keys of the batch that come out wrong",
        {
            f"{tool}\n{result['wrong keys %']:g} % wrong\n({result['wrong keys, times left out %']:g} % by values alone)": {
                way: result[way] for way in ways
            }
            for tool, result in found["tools"].items()
        },
        "seconds, logarithmic, 2 cores",
    )


def _environment() -> None:
    """`.venv-peers`, complete."""
    made = VENV / "complete"
    wanted = " ".join([*PACKAGES, duckdb.__version__])
    if made.exists() and made.read_text() == wanted:
        return
    say("making .venv-peers")
    shutil.rmtree(VENV, ignore_errors=True)
    python = VENV / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    (VENV / ".gitignore").write_text("*\n")
    subprocess.run([*install, *PACKAGES], check=True)
    subprocess.run([*install, "--no-deps", f"duckdb=={duckdb.__version__}"], check=True, stderr=subprocess.DEVNULL)
    made.write_text(wanted)


def _copy(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    connection.execute(f"copy ({query}) to '{path}' (format parquet)")


def _timed(command: list[str]) -> float:
    """Seconds of a command.

    Raises:
        RuntimeError: with what it said, if it failed.
    """
    before = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    return time.perf_counter() - before
