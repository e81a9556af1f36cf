"""The history engine beside its yardsticks: a batch, growth, deep keys, bulk, memory, and other tools on the same rows.

    python -m bench.history [--rows 10000000] [--keys 1000000] [--part batch|growth|deep|bulk|memory|sync|peers|all]

Judged is the time of the materialization's own SQL statements, from the first to the commit, as dbt clocks them, on a
connection that is warm and whose checkpoint is deferred as the platform's profile defers it. The yardstick of a batch,
the floor, is what any engine has to do: append 2 x 10,000 rows, read the key and one time column of the history, commit. It
is taken before every batch on the same database; where two histories are compared, their batches take turns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from bench import history_peers
from bench.history_bench import BATCH, LOG_TABLE, Bench, say
from bench.history_dbt import Engine
from bench.history_stream import SHARES, Stream
from bench.parts import Clock, Peak, home, land, lines, model_seconds, report, stacked, sync
from c360_assets import local

SECONDS = "seconds, 2 cores"


class History:
    """The parts, each of which reports by itself. The history of `stream` is made once for those that need it."""

    def __init__(self, work: Path, stream: Stream, memory: str, events: Path | None) -> None:
        self.work = work
        self.stream = stream
        self.memory = memory
        self.events = events
        self._shallow: Bench | None = None
        self._bulk: dict[str, Any] = {}

    def shallow(self) -> Bench:
        if self._shallow is None:
            self._shallow = self._made("shallow", self.stream)
            self._bulk = self._shallow.bulk()
        return self._shallow

    def leave(self) -> None:
        """Gives back the memory and the disk of the history that was shared."""
        if self._shallow is not None:
            self._shallow.engine.close()
            shutil.rmtree(self._shallow.engine.work)
            self._shallow = None

    def described(self, **more: Any) -> dict[str, Any]:
        return {
            "rows": self.stream.rows, "keys": self.stream.keys, "rows of a batch": BATCH, "percent of events": SHARES,
            "memory limit of DuckDB": self.memory, "cores": os.cpu_count(), "duckdb": duckdb.__version__, **more,
        }  # fmt: skip

    def bulk(self) -> None:
        self.shallow()
        report("history_bulk", self.described(aim=3) | self._bulk)
        plain = statistics.median(self._bulk["plain create table as s"])
        stacked(
            "history_bulk",
            f"{self.stream.rows:,} events from nothing: {self._bulk['bulk / plain']} times a plain table",
            {"log, current, ties": grouped(self._bulk["statements s"])[0], "plain table": {"create table as": plain}},
            SECONDS,
        )

    def batch(self) -> None:
        bench = self.shallow()
        bench.forget()
        bench.batches(9)
        checkpoint = bench.checkpoint()
        found = bench.batch_results()
        commands = bench.by_command(3)
        rebuild = bench.rebuild()
        report(
            "history_batch",
            self.described()
            | {
                "batch / floor": found["batch / floor"],
                "aim": 4.5,
                "rebuild / batch": round(rebuild["judged s"] / found["judged s"], 1),
                "aim of it": 20,
                "batch": found,
                "the checkpoint that was deferred s": round(checkpoint, 2),
                "wall by the dbt command line s": statistics.median(commands),
                "rebuild": rebuild,
            },
        )
        stacked(
            "history_batch",
            f"{BATCH:,} events on {self.stream.rows:,}: {found['batch / floor']} times the floor",
            {"batch": grouped(found["statements of the median batch s"])[0], "floor": {"floor": found["floor s"]}},
            SECONDS,
        )

    def growth(self) -> None:
        """Three tenths of the rows and three times as many, ten events a key in both."""
        sizes = (self.stream.rows * 3 // 10, self.stream.rows * 3)
        small, large = self._in_turns(*(self._made(f"rows-{rows}", Stream(rows, rows // 10)) for rows in sizes))
        ratio = round(large["judged s"] / small["judged s"], 2)
        report("history_growth", self.described() | {"large / small": ratio, "aim": 3, "small": small, "large": large})
        lines(
            "history_growth",
            f"A batch of {BATCH:,} events takes {ratio} times as long on ten times the rows",
            [rows / 1e6 for rows in sizes],
            {
                "batch": [small["judged s"], large["judged s"]],
                "floor": [small["floor s"], large["floor s"]],
                "in proportion": [small["judged s"], 10 * small["judged s"]],
            },
            ("million events in the history", SECONDS),
        )

    def deep(self) -> None:
        keys = self.stream.keys // 10
        shallow = self.shallow()
        usual, deep = self._in_turns(shallow, self._made("deep", Stream(self.stream.rows, keys)))
        ratio = round(deep["judged s"] / usual["judged s"], 2)
        # The floor is the same in both, so that what is left of its difference is the machine's.
        by_floor = round(deep["batch / floor"] / usual["batch / floor"], 2)
        report(
            "history_deep",
            self.described()
            | {"deep / usual": ratio, "each by its floor": by_floor, "aim": 1, "deep": deep, "usual": usual},
        )
        each = self.stream.rows // keys
        name = "statements of the median batch s"
        bars = grouped(usual[name], deep[name])
        stacked(
            "history_deep",
            f"{BATCH:,} events on {self.stream.rows:,}: with {each} a key {ratio} times as long as with {each // 10}",
            {f"{each // 10} a key": bars[0], f"{each} a key": bars[1]},
            SECONDS,
        )

    def _made(self, name: str, stream: Stream) -> Bench:
        return Bench(self.work / name, stream, self.memory, self.events)

    def _in_turns(self, one: Bench, other: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
        """Batches of both, twice in turn, so that a slow minute of the machine meets both."""
        for bench in (one, other):
            bench.forget()
            if bench is not self._shallow:
                say(f" {bench.stream.rows:,} events built in {bench.engine.build().judged:.1f} s")
                bench.engine.close()
        for _ in range(2):
            for bench in (one, other):
                say(f" {bench.stream.rows:,} events of {bench.stream.keys:,} keys")
                bench.batches(4)
                bench.engine.close()
        for bench in (one, other):
            if bench is not self._shallow:
                shutil.rmtree(bench.engine.work)
        return one.batch_results(), other.batch_results()

    def memory_bound(self, limit_mb: int = 4_000) -> None:
        """Bulk of three times the rows by the command line, watched from outside."""
        rows = self.stream.rows * 3
        limit = f"{limit_mb}MB"
        engine = Engine(self.work / "memory", limit)
        engine.fill(Stream(rows, rows // 10), self.events)
        clock = Clock()
        with clock.time("wall"), (self.work / "output").open("w+") as output:
            process = subprocess.Popen(
                engine.command("build", "--exclude-resource-type", "snapshot"),
                env=os.environ | engine.environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            with Peak(process.pid) as peak:
                process.wait()
            output.seek(0)
            said = output.read()
        finished = process.returncode == 0
        counts: tuple[Any, ...] = (None, None)
        if finished:
            with engine.alone() as connection:
                connection.execute(f"set memory_limit = '{limit}'")
                counts = (
                    connection.execute(
                        f"select count(*), (select count(*) from core.bench_history) from {LOG_TABLE}"
                    ).fetchone()
                    or counts
                )
        shutil.rmtree(engine.work)
        report(
            "history_memory",
            {
                "rows": rows, "keys": rows // 10, "memory limit of DuckDB": limit, "finished": finished,
                "peak of resident memory, dbt and DuckDB, MB": round(peak.mb), "wall by the dbt command line s": clock.seconds["wall"],
                "rows of the log": counts[0], "versions": counts[1], **({} if finished else {"said": said[-2000:]}),
            },
        )  # fmt: skip

        if finished:
            stacked(
                "history_memory",
                f"{rows:,} events from nothing under a limit of {limit_mb:,} MB in DuckDB",
                {"dbt and DuckDB, peak": {"resident": peak.mb}, "limit": {"limit": limit_mb}},
                "MB",
            )

    def sync(self) -> None:
        """`c360 sync` of one file of a batch's size on a home with a history of a tenth of the rows, S3 to checks."""
        rows = self.stream.rows // 10
        stream = Stream(rows, rows // 10)
        folder = self.work / "files"
        folder.mkdir()

        def file(first: int, count: int) -> Path:
            path = folder / f"customer_{20260101000000 + first}.csv"
            duckdb.execute(
                f"""
                copy (
                    select
                        customer_id, first_name, last_name, email, phone, street, city, segment as customer_segment,
                        strftime(event_time, '%Y-%m-%dT%H:%M:%S.%fZ') as updated_at, case op when 'delete' then 'D' else 'U' end as op
                    from ({stream.events(first, count, "file")})
                ) to '{path}' (header)
                """
            )
            return path

        settings = home(self.work / "home")
        with local.embedded_s3(settings):
            land(settings, "customers", [file(first, rows // 10) for first in range(0, rows, rows // 10)])
            first = Clock()
            with first.time("s"):
                sync(settings)
            walls, models = [], []
            for number in range(3):
                land(settings, "customers", [file(rows + number * BATCH, BATCH)])
                clock = Clock()
                with clock.time("s"):
                    sync(settings)
                walls.append(clock.seconds["s"])
                models.append(model_seconds(settings)["customer_log"])
                say(f"c360 sync {walls[-1]} s, of that customer_log {models[-1]} s")
        report(
            "history_sync",
            {
                "rows before": rows,
                "rows of the file": BATCH,
                "c360 sync, first, s": first.seconds["s"],
                "c360 sync, one more file, s": statistics.median(walls),
                "of that the model customer_log, s": statistics.median(models),
            },
        )

    def peers(self) -> None:
        bench = self.shallow()
        found = history_peers.compare(bench, self.work)
        report("history_peers", self.described() | found)
        history_peers.plot(found, self.stream.rows)


def grouped(*runs: dict[str, float], most: int = 7) -> list[dict[str, float]]:
    """Of each run the statements that take longest over all runs, and the rest as one."""
    total = {name: sum(run.get(name, 0.0) for run in runs) for run in runs for name in run}
    shown = sorted(total, key=lambda name: -total[name])[:most]
    return [
        {name.replace("bench_log__", ""): run.get(name, 0.0) for name in shown}
        | {"the rest": sum(seconds for name, seconds in run.items() if name not in shown)}
        for run in runs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--keys", type=int, default=1_000_000, help="a multiple of 10,000")
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--memory", default="8GB", help="DuckDB's memory limit, but for the part `memory`")
    parser.add_argument("--events", type=Path, help="a folder in which events that were made are kept for the next run")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="c360-bench-"))
    try:
        history = History(work, Stream(options.rows, options.keys), options.memory, options.events)
        for name in PARTS if options.part == "all" else [options.part]:
            say(f"== {name}")
            if name in ("growth", "memory", "sync"):
                history.leave()
            PARTS[name](history)
    finally:
        shutil.rmtree(work, ignore_errors=True)


PARTS = {
    "bulk": History.bulk, "batch": History.batch, "deep": History.deep, "peers": History.peers, "growth": History.growth,
    "memory": History.memory_bound, "sync": History.sync,
}  # fmt: skip


if __name__ == "__main__":
    main()
