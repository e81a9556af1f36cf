"""Chaos under load: kill -9 of the processes of `c360 up`, one after another, and every event is in gold once.

    python -m tests.chaos_up --minutes 10 --rate 300 [--seed 0]

Clicks go through the broker all the while. Broker, S3, daemon, code server, Dagster itself, worker and consumer are
killed at random; runs of the sensors too, while the worker is kept away. At the end the generator says what it has sent,
and events, purchases and revenue of `gold.real_time_metrics` have to be that. Exit 1 if they are not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import psutil

from c360_assets.local import free_port
from c360_assets.settings import Settings
from c360_assets.warehouse import NoWarehouse, WarehouseBusy, open_warehouse

# Events, purchases and revenue.
Counts = tuple[int, int, Decimal]
C360 = Path(sys.executable).with_name("c360")
# How to know each by its command line.
KINDS: dict[str, Callable[[list[str]], bool]] = {
    "broker": lambda words: words[0].endswith("/tansu"),
    "S3": lambda words: any(word.endswith("/ministack") for word in words),
    "daemon": lambda words: "dagster._daemon" in words,
    "code server": lambda words: "code-server" in words or "grpc" in words,
    "Dagster": lambda words: "dev" in words and any(word.endswith("/dagster") for word in words),
    "worker": lambda words: words[-1] == "worker" and any(word.endswith("/c360") for word in words),
    "consumer": lambda words: "stream" in words and "kafka" in words,
    "run": lambda words: "spawn_main" in " ".join(words),
}


class Up:
    """`c360 up` on a home of its own, with clicks at a rate."""

    def __init__(self, home: Path, rate: float, log: Path) -> None:
        self.settings = Settings.load({"C360_HOME": str(home), "C360_WAIT": "120"})
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("C360_", "AWS_", "KAFKA_"))}
        ports = [str(free_port()) for _ in range(3)]
        self._log = log
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                [C360, "up", "--generate", "--clicks", str(rate), "--port", ports[0], "--api-port", ports[1],
                 "--dashboard-port", ports[2]],
                env=environment | {"C360_HOME": str(home), "C360_WAIT": "120"}, stdout=said, stderr=said,
            )  # fmt: skip

    def of(self, kind: str) -> list[psutil.Process]:
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    words = process.cmdline()
                    if words and KINDS[kind](words):
                        found.append(process)
        # S3 and what a dead parent left are nobody's children.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                ours = str(self.settings.home) in (
                    process.environ().get("S3_DATA_DIR") or process.environ().get("C360_HOME") or ""
                )
                if words and ours and KINDS[kind](words) and process.pid not in {p.pid for p in found}:
                    found.append(process)
        return found

    def counts(self) -> Counts | None:
        """Events, purchases and revenue in gold; None where nothing is there yet."""
        try:
            with open_warehouse(self.settings).reading(120) as session:
                if "gold.real_time_metrics" not in session.tables():
                    return None
                sql = "select sum(count_events), sum(count_purchases), sum(revenue) from gold.real_time_metrics"
                ((events, purchases, revenue),) = session.rows(sql)
        except (NoWarehouse, WarehouseBusy):
            return None
        return None if events is None else (int(events), int(purchases), Decimal(revenue))

    def sent(self) -> Counts:
        """Ends the generator of clicks and takes its word."""
        generators = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # one that was killed may not be waited for yet
                if "clickstream_live" in child.cmdline():
                    generators.append(child)
        for each in generators:
            each.send_signal(signal.SIGTERM)
        psutil.wait_procs(generators, 320)
        lines = self._log.read_text(errors="replace").splitlines()
        words = (
            [line for line in lines if line.startswith("sent ") and "purchases" in line][-1].replace(",", "").split()
        )
        return int(words[1]), int(words[3]), Decimal(words[6])

    def twice(self) -> int:
        """Events that stand twice."""
        with open_warehouse(self.settings).reading(120) as session:
            ((count,),) = session.rows("select count(*) - count(distinct event_id) from core.click")
        return int(count)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(120)
        self.process.kill()


def rounds(up: Up, minutes: float, luck: random.Random) -> Counter[str]:
    """Kills one after another; what was killed how often."""
    killed: Counter[str] = Counter()
    until = time.monotonic() + minutes * 60
    while time.monotonic() < until:
        time.sleep(luck.uniform(4, 20))
        if up.process.poll() is not None:
            raise SystemExit("c360 up has ended")
        kind = luck.choice(list(KINDS))
        if kind == "run":
            _run_of_a_sensor(up, killed)
            continue
        if there := up.of(kind):
            luck.choice(there).kill()
            killed[kind] += 1
            print(f"{time.strftime('%H:%M:%S')} killed {kind}", flush=True)
    return killed


def _run_of_a_sensor(up: Up, killed: Counter[str]) -> None:
    """Keeps the worker away until a sensor has launched a run, and kills that."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for worker in up.of("worker"):
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        if there := up.of("run"):
            time.sleep(1)
            with contextlib.suppress(psutil.NoSuchProcess):
                there[0].kill()
                killed["run"] += 1
                print(f"{time.strftime('%H:%M:%S')} killed run", flush=True)
            return
        time.sleep(0.2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos_up", description=str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of killing (10)")
    parser.add_argument("--rate", type=float, default=300, help="events a second (300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the home and the log if something is wrong")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="c360-chaos-up-"))
    up = Up(folder / "home", options.rate, folder / "log")
    agreed = False
    try:
        until = time.monotonic() + 300
        while up.counts() is None:
            if time.monotonic() > until or up.process.poll() is not None:
                raise SystemExit(f"no click came to gold: {(folder / 'log').read_text(errors='replace')[-2000:]}")
            time.sleep(1)
        killed = rounds(up, options.minutes, random.Random(options.seed))
        sent, found = up.sent(), None
        # What is slow is not lost: as long as something comes, the end is not there.
        until = time.monotonic() + 600
        while found != sent and time.monotonic() < until:
            time.sleep(3)
            if (now := up.counts()) not in (None, found):
                found, until = now, time.monotonic() + 600
        up.stop()
        twice = up.twice()
        agreed = found == sent and twice == 0
        print(f"killed: {', '.join(f'{kind} {count}' for kind, count in sorted(killed.items()))}")
        print(f"sent: {sent[0]} events, {sent[1]} purchases, revenue {sent[2]}")
        told = found and f"{found[0]} events, {found[1]} purchases, revenue {found[2]}"
        print(f"in gold: {told}, {twice} events twice: {'agrees' if agreed else 'DIFFERS'}")
    finally:
        up.stop()
        if agreed or not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"see {folder}")
    return 0 if agreed else 1


if __name__ == "__main__":
    raise SystemExit(main())
