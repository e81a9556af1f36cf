"""A history on a stream of events, and what is measured on it: bulk, batches beside the floor, the rebuild."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import duckdb

from bench.history_dbt import LOG, Engine, Run
from bench.history_stream import Stream

BATCH = 10_000
LOG_TABLE = f"core.{LOG}"


def say(text: str) -> None:
    print(text, flush=True)


class Bench:
    """An engine, the stream that its history is made of, and its further batches."""

    def __init__(self, work: Path, stream: Stream, memory: str, events: Path | None = None) -> None:
        self.stream = stream
        self.engine = Engine(work, memory)
        self.forget()
        self._next = stream.rows
        before = time.perf_counter()
        self.engine.fill(stream, events)
        say(f"{stream.rows:,} events made in {time.perf_counter() - before:.0f} s")

    def forget(self) -> None:
        """What was measured of batches."""
        self.runs: list[Run] = []
        self.floors: list[float] = []
        self.checkpoints = 0

    def bulk(self) -> dict[str, Any]:
        """The first build of everything, and a plain table of the same rows, before it and after."""
        self.engine.open()
        plain = [self._plain()]
        run = self.engine.build()
        plain.append(self._plain())
        say(f"bulk {run.judged:.1f} s, plain {plain[0]:.1f} and {plain[1]:.1f} s")
        return {
            "judged s": round(run.judged, 2),
            "plain create table as s": [round(s, 2) for s in plain],
            "bulk / plain": round(run.judged / statistics.median(plain), 2),
            "wall by dbtRunner s": round(run.wall, 2),
            "statements s": run.profile(),
        }

    def _plain(self) -> float:
        with self.engine.cursor() as cursor:
            before = time.perf_counter()
            cursor.execute("create table bench.plain as select * from bench.events")
            seconds = time.perf_counter() - before
            cursor.execute("drop table bench.plain")
            cursor.execute("checkpoint")
        return seconds

    def batches(self, count: int) -> None:
        """Pairs of floor and batch, of which the first is not counted: it warms."""
        self.engine.open()
        with self.engine.cursor() as cursor:
            for name, table in (("log", LOG_TABLE), ("current", "core.bench")):
                cursor.execute(f"create table if not exists bench.some_{name} as from {table} limit {BATCH}")
                cursor.execute(f"create table if not exists bench.floor_{name} as from bench.some_{name} limit 0")
            cursor.execute("checkpoint")
        for number in range(count + 1):
            with self.engine.cursor() as cursor:
                self.land(cursor)
            floor = self._floor()
            before = self._wal()
            run = self.engine.build()
            say(f"  floor {floor:.3f}, batch {run.judged:.3f}, wall {run.wall:.3f}")
            if number > 0:
                self.floors.append(floor)
                self.runs.append(run)
                self.checkpoints += self._wal() < before

    def land(self, connection: duckdb.DuckDBPyConnection) -> str:
        """One more batch into `bench.events`; its name."""
        name = f"later-{self._next:012}"
        connection.execute(f"insert into bench.events {self.stream.events(self._next, BATCH, name)}")
        self._next += BATCH
        return name

    def _floor(self) -> float:
        before = time.perf_counter()
        with self.engine.cursor() as cursor:
            cursor.execute("begin")
            cursor.execute("insert into bench.floor_log from bench.some_log")
            cursor.execute("insert into bench.floor_current from bench.some_current")
            cursor.execute(f"select sum(strlen(customer_id)), sum(epoch_us(event_time)) from {LOG_TABLE}").fetchall()
            cursor.execute("commit")
        return time.perf_counter() - before

    def _wal(self) -> int:
        """Bytes of DuckDB's log of what no checkpoint has written yet."""
        wal = Path(f"{self.engine.path}.wal")
        return wal.stat().st_size if wal.exists() else 0

    def checkpoint(self) -> float:
        with self.engine.cursor() as cursor:
            before = time.perf_counter()
            cursor.execute("checkpoint")
            return time.perf_counter() - before

    def batch_results(self) -> dict[str, Any]:
        """Of all batches so far."""
        median = sorted(self.runs, key=lambda r: r.judged)[(len(self.runs) - 1) // 2]
        batch, floor = statistics.median(r.judged for r in self.runs), statistics.median(self.floors)
        return {
            "rows": self.stream.rows,
            "keys": self.stream.keys,
            "batches": len(self.runs),
            "judged s": round(batch, 4),
            "judged, all s": [round(r.judged, 4) for r in self.runs],
            "floor s": round(floor, 4),
            "floor, all s": [round(s, 4) for s in self.floors],
            "batch / floor": round(batch / floor, 2),
            "batch / floor, by pairs": round(
                statistics.median(r.judged / f for r, f in zip(self.runs, self.floors, strict=True)), 2
            ),
            "batch / floor, least of each": round(min(r.judged for r in self.runs) / min(self.floors), 2),
            "first statement to commit, with dbt between them, s": round(
                statistics.median(r.span for r in self.runs), 4
            ),
            "wall by dbtRunner s": round(statistics.median(r.wall for r in self.runs), 3),
            "checkpoints within": self.checkpoints,
            "statements of the median batch s": median.profile(),
        }

    def by_command(self, count: int) -> list[float]:
        """Seconds of batches by the command line; the warm connection is given up."""
        self.engine.close()
        found = []
        for _ in range(count):
            with self.engine.alone() as connection:
                self.land(connection)
            found.append(round(self.engine.build_by_command(), 2))
        say(f"by command line {found}")
        return found

    def digest(self) -> tuple[Any, ...]:
        """Of the log's rows in any order, with marks and lineage."""
        self.engine.open()
        with self.engine.cursor() as cursor:
            columns = sorted(c[0] for c in cursor.execute(f"describe {LOG_TABLE}").fetchall())
            found = cursor.execute(f"select count(*), sum(hash({', '.join(columns)})) from {LOG_TABLE}").fetchone()
        return tuple(found or ())

    def rebuild(self) -> dict[str, Any]:
        """Everything anew; warm, too."""
        before = self.digest()
        run = self.engine.build("--full-refresh")
        say(f"rebuild {run.judged:.1f} s")
        return {
            "judged s": round(run.judged, 2),
            "equal to what the batches made": before == self.digest(),
            "statements s": run.profile(),
        }
