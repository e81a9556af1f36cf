"""What the benchmarks share: a home, its S3, a clock, the memory of a process tree, results and plots.

Seconds of one machine mean little: every bench measures its yardstick in the same run and reports ratios.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from c360_assets import local, registers
from c360_assets.duckdb_warehouse import DuckDBSession
from c360_assets.feeds import load_feeds
from c360_assets.landing import Listed
from c360_assets.settings import PROJECT, Settings
from c360_assets.spool import Outcome
from c360_assets.warehouse import Session

C360 = Path(sys.executable).with_name("c360")
PLOTS = PROJECT / "docs" / "bench"


class Clock:
    """Seconds by name, in the order in which they were taken."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - before, 3)


class Peak:
    """The greatest resident memory, in MB, that this process and its children had while it was watched."""

    def __init__(self, pid: int | None = None) -> None:
        self._process = psutil.Process(pid or os.getpid())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mb = 0.0
        self.mb_of: dict[str, float] = {}

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            total = 0.0
            for process in [self._process, *self._children()]:
                try:
                    command = process.cmdline()
                    used = process.memory_info().rss / 1e6
                except psutil.Error:
                    continue
                if any("ministack" in part for part in command):
                    continue  # the S3 is not ours
                name = "dbt" if any(Path(part).name == "dbt" for part in command) else "c360"
                self.mb_of[name] = max(self.mb_of.get(name, 0.0), used)
                total += used
            self.mb = max(self.mb, total)

    def _children(self) -> list[psutil.Process]:
        try:
            return self._process.children(recursive=True)
        except psutil.Error:
            return []


class Dbt:
    """dbt in this process, its project parsed once.

    Attributes:
        statements: {node: seconds that its statements took} of the last build.
    """

    def __init__(self, work: Path) -> None:
        self._places = ["--project-dir", str(PROJECT / "dbt"), "--profiles-dir", str(PROJECT / "dbt"), "--target", "duckdb",
                        "--target-path", str(work / "target"), "--log-path", str(work)]  # fmt: skip
        self._manifest: Any = dbtRunner().invoke(["--quiet", "parse", *self._places]).result
        self.statements: dict[str, float] = {}

    def build(self, *arguments: str) -> dict[str, float]:
        """{node: seconds}. The database stays open after it, until `close`."""
        self.statements = {}

        def listen(message: Any) -> None:
            if message.info.name == "SQLQueryStatus":
                node = message.data.node_info.node_name
                self.statements[node] = self.statements.get(node, 0.0) + message.data.elapsed

        runner = dbtRunner(manifest=self._manifest, callbacks=[listen])
        built = runner.invoke(["--quiet", "build", *arguments, *self._places])
        if not built.success:
            raise RuntimeError([(r.node.name, r.message) for r in built.result if r.status not in ("success", "pass")])
        return {r.node.name: r.execution_time for r in built.result}

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session on the database that a build has left open."""
        cursor = DuckDBConnectionManager.env().conn.cursor()  # type: ignore[attr-defined]
        try:
            yield DuckDBSession(cursor)
        finally:
            cursor.close()

    def close(self) -> None:
        DuckDBConnectionManager.close_all_connections()


def home(path: Path, **environment: str) -> Settings:
    return Settings.load({"C360_HOME": str(path), **environment})


def stage_rows(session: Session, rows: Mapping[str, tuple[int, str]], name: str = "all.csv") -> None:
    """Rows in staging as a load would leave them, in one batch, an object a feed: {feed: (how many, columns as of i)}."""
    batch, now = registers.next_batch(session)
    feeds = load_feeds([PROJECT / "dbt" / "models" / "staging"])
    with session.transaction():
        for feed, (count, columns) in rows.items():
            key = f"stream_data/{feed}/{name}"
            session.execute(
                f"insert into staging.{feed} by name select {columns}, '{key}' as _key, 'e' as _etag, i + 1 as _row, "
                f"cast(? as timestamp) as _loaded_at, cast(? as varchar) as _batch from range({count}) as r(i)",
                [now, batch],
            )
            outcome = Outcome(Listed(now, key, "e", 1), "loaded", None, count)
            registers.write_registers(session, feeds[feed], [outcome], batch, now)


def land(settings: Settings, feed: str, files: Sequence[tuple[str, bytes]] | Sequence[Path]) -> None:
    """Puts objects side by side, without the command's checks: landing is not what is measured."""
    bucket = local.landing_bucket(settings)
    bucket.ensure()
    prefix = f"{settings.prefix}/{feed}/"

    def put(file: Any) -> None:
        name, body = file if isinstance(file, tuple) else (file.name, file.read_bytes())
        bucket.client.put_object(Bucket=bucket.name, Key=prefix + name, Body=body)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, files))


def sync(settings: Settings, environment: Mapping[str, str] | None = None, *arguments: str) -> Peak:
    """`c360 sync` as a user runs it; the peak of its memory."""
    process = subprocess.Popen(
        [C360, "sync", *arguments],
        env=os.environ | {"C360_HOME": str(settings.home)} | dict(environment or {}),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with Peak(process.pid) as peak:
        output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"c360 sync ended with {process.returncode}:\n{output}")
    return peak


def model_seconds(settings: Settings) -> dict[str, float]:
    """{model or test: seconds} of the newest dbt run of the home."""
    runs = sorted((settings.dbt_home / "duckdb" / "runs").iterdir(), key=lambda p: p.stat().st_mtime)
    results = json.loads((runs[-1] / "run_results.json").read_text())["results"]
    return {r["unique_id"].split(".")[2]: round(r["execution_time"], 3) for r in results}


def report(name: str, results: Mapping[str, Any]) -> None:
    """Results on stdout and beside the plots."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    (PLOTS / f"{name}.json").write_text(text + "\n")
    print(text)


def stacked(name: str, title: str, bars: Mapping[str, Mapping[str, float]], unit: str) -> None:
    """A plot of bars, each made of named parts."""
    pyplot = _pyplot()
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    figure, axes = pyplot.subplots(figsize=(10, max(0.6 * len(bars) + 1.6, 0.22 * len(parts) + 0.9)))
    left = [0.0] * len(bars)
    for part in parts:
        widths = [bar.get(part, 0.0) for bar in bars.values()]
        axes.barh(list(bars), widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_xlabel(unit)
    axes.set_title(title)
    axes.invert_yaxis()
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.02))
    _save(figure, name)


def side_by_side(name: str, title: str, groups: Mapping[str, Mapping[str, float]], unit: str) -> None:
    """A plot of groups of bars on a logarithmic axis, each bar with its value."""
    figure, axes = _pyplot().subplots(figsize=(9, 0.9 * len(groups) + 1.8))
    parts = list(dict.fromkeys(part for group in groups.values() for part in group))
    height = 0.8 / len(parts)
    for number, part in enumerate(parts):
        at = [place + (number - (len(parts) - 1) / 2) * height for place in range(len(groups))]
        bars = axes.barh(at, [group.get(part, 0.0) for group in groups.values()], height, label=part)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize="x-small")
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize="medium")
    axes.invert_yaxis()
    axes.legend(fontsize="small", loc="best")
    _save(figure, name)


def lines(
    name: str, title: str, x: Sequence[float], series: Mapping[str, Sequence[float]], units: tuple[str, str]
) -> None:
    """A plot of lines over `x`, both axes logarithmic: what grows in proportion is straight and steep."""
    figure, axes = _pyplot().subplots(figsize=(7, 4.5))
    for label, values in series.items():
        axes.loglog(x, values, marker="o", label=label)
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.set_xlabel(units[0])
    axes.set_ylabel(units[1])
    axes.set_title(title)
    axes.legend(fontsize="small", loc="best")
    _save(figure, name)


def over_time(name: str, title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """One plot beneath the other, each of (minute, value)."""
    figure, rows = _pyplot().subplots(len(series), 1, sharex=True, figsize=(8, 2.6 * len(series)))
    for axes, (label, points) in zip(rows, series.items(), strict=True):
        axes.plot([x for x, _ in points], [y for _, y in points], ".", markersize=3)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    rows[0].set_title(title)
    rows[-1].set_xlabel("minutes")
    _save(figure, name)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, name: str) -> None:
    figure.tight_layout()
    PLOTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOTS / f"{name}.png", dpi=120)
