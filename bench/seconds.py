"""Seconds from the object to gold under load: everything that `c360 up` starts, clicks through the broker at a set rate.

    python -m bench.seconds [--minutes 10] [--rate 1000] [--idle-minutes 2] [--sensor-minutes 4]

In the same run, after it: an event a second, which is next to nothing, and the same graph with Dagster's sensors alone under the full
rate. Every event is counted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from bench.parts import C360, over_time, report
from c360_assets import local
from c360_assets.settings import Settings
from c360_assets.warehouse import open_warehouse


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--idle-minutes", type=float, default=2)
    parser.add_argument("--sensor-minutes", type=float, default=4)
    parser.add_argument("--rate", type=float, default=1000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="c360-seconds-"))
    try:
        found: dict[str, Any] = {"events a second": options.rate, "minutes": options.minutes}
        found["worker"], drawn = measured(folder / "worker", options.rate, options.minutes)
        print(json.dumps(found), flush=True)  # the rest takes a quarter of an hour more
        found["worker, an event a second"], _ = measured(folder / "idle", 1, options.idle_minutes)
        found["sensors"], _ = measured(folder / "sensors", options.rate, options.sensor_minutes, "--no-worker")
        for share in ("p50", "p95"):
            ratio = found["sensors"]["object to gold s"][share] / found["worker"]["object to gold s"][share]
            found[f"sensors / worker, {share}"] = round(ratio, 1)
        report("seconds", found)
        over_time(
            "seconds", f"From the object to gold, {options.rate:.0f} events a second",
            {"object to gold, s": drawn["gold"], "memory of the worker, GB": drawn["memory"]},
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)


def measured(
    home: Path, rate: float, minutes: float, *more: str
) -> tuple[dict[str, Any], dict[str, list[tuple[float, float]]]]:
    """What came of so many minutes of load, after the parts have begun."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("C360_", "AWS_", "KAFKA_"))}
    environment |= {"C360_HOME": str(home)}
    settings = Settings.load({"C360_HOME": str(home)})
    ports = [str(local.free_port()) for _ in range(3)]
    with (home.parent / f"{home.name}.log").open("wb") as log:
        up = subprocess.Popen(
            [C360, "up", "--generate", "--clicks", str(rate), "--port", ports[0], "--api-port", ports[1],
             "--dashboard-port", ports[2], *more],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        memory: list[tuple[float, float]] = []
        try:
            began = _begun(settings)
            until = time.monotonic() + minutes * 60
            while time.monotonic() < until:
                memory.append((minutes - (until - time.monotonic()) / 60, _memory("worker", home)))
                time.sleep(5)
        finally:
            # The generator ends first and says what it has sent; what is on its way arrives.
            sent = _sent(up, home)
            _wait_for(settings, sent)
            up.send_signal(signal.SIGINT)
            up.wait(90)
    with open_warehouse(settings).reading() as session:
        ((events, purchases, revenue),) = session.rows(
            "select sum(count_events), sum(count_purchases), sum(revenue) from gold.real_time_metrics"
        )
        landed = session.rows(
            "select last_modified, loaded_at from staging.object_ledger where feed = 'clickstream' and last_modified >= ?",
            [began],
        )
        batches = session.rows(
            "select landed_at, gold_at, objects from staging.batch_times where feed = 'clickstream' and landed_at >= ?",
            [began],
        ) if not more else _by_sensors(settings, landed)  # fmt: skip
    told = sorted(((gold - at).total_seconds(), objects) for at, gold, objects in batches if gold is not None)
    first = min(at for at, *_ in batches)
    return {
        "objects": len(landed),
        # Of its batch's oldest object each object has the time: never less than its own.
        "object to gold s": _shares([seconds for seconds, objects in told for _ in range(objects)]),
        "batch to gold s": _shares([seconds for seconds, _ in told]),
        "events sent": sent["events"],
        "events in gold": int(events),
        "purchases in gold / sent": [int(purchases), sent["purchases"]],
        "revenue in gold / sent": [str(revenue), sent["revenue"]],
        "memory of the worker GB, first and last minute": [_mean(memory[:12]), _mean(memory[-12:])]
        if not more
        else None,
        "median of the first and last fifth s": _drift(batches),
    }, {
        "gold": [((at - first).total_seconds() / 60, (gold - at).total_seconds()) for at, gold, _ in batches if gold],
        "memory": memory,
    }


def _begun(settings: Settings) -> datetime:
    """When the first clicks are in gold, and half a minute has passed."""
    for _ in range(600):
        time.sleep(0.5)
        try:
            with open_warehouse(settings).reading(5) as session:
                if session.rows("select 1 from gold.real_time_metrics limit 1"):
                    break
        except Exception:  # noqa: BLE001, S112 - it is not there yet, or busy: asked again
            continue
    else:
        raise SystemExit("no click came to gold in five minutes")
    time.sleep(30)
    return datetime.now(UTC).replace(tzinfo=None)


def _sent(up: subprocess.Popen[bytes], home: Path) -> dict[str, Any]:
    """Ends the generator of clicks and takes its word."""
    generators = [
        c for c in psutil.Process(up.pid).children(recursive=True) if "clickstream_live" in " ".join(c.cmdline())
    ]
    for each in generators:
        each.send_signal(signal.SIGTERM)
    psutil.wait_procs(generators, 60)
    told = [
        line
        for line in (home.parent / f"{home.name}.log").read_text(errors="replace").splitlines()
        if line.startswith("sent ") and "purchases" in line
    ]
    words = told[-1].replace(",", "").split()
    return {"events": int(words[1]), "purchases": int(words[3]), "revenue": words[6]}


def _wait_for(settings: Settings, sent: dict[str, Any]) -> None:
    """Returns when all of it is in gold.

    Raises:
        SystemExit: if it is not after a quarter of an hour: lost, or by sensors that do not keep up.
    """
    until, events = time.monotonic() + 900, 0
    while time.monotonic() < until:
        with open_warehouse(settings).reading(120) as session:
            ((events,),) = session.rows("select sum(count_events) from gold.real_time_metrics")
        if int(events) >= sent["events"]:
            return
        time.sleep(5)
    raise SystemExit(f"{events} of {sent['events']} events are in gold")


def _by_sensors(settings: Settings, landed: list[tuple[Any, ...]]) -> list[tuple[datetime, datetime | None, int]]:
    """Of each object when it landed, and the first materialization of the minutes after it was loaded."""
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        key = dg.AssetKey(["gold", "real_time_metrics"])
        records = instance.fetch_materializations(key, limit=1000).records
    made = sorted(datetime.fromtimestamp(record.timestamp, UTC).replace(tzinfo=None) for record in records)
    return [(at, next((when for when in made if when > loaded), None), 1) for at, loaded in landed]


def _memory(command: str, home: Path) -> float:
    """GB of the process of a command of this home."""
    for process in psutil.process_iter(["cmdline"]):
        told = process.info["cmdline"] or []
        if told[-1:] == [command] and process.environ().get("C360_HOME") == str(home):
            return float(process.memory_info().rss) / 1e9
    return 0.0


def _shares(seconds: list[float]) -> dict[str, float]:
    return {name: round(seconds[min(len(seconds) - 1, int(share * len(seconds)))], 2)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))}  # fmt: skip


def _mean(memory: list[tuple[float, float]]) -> float:
    return round(statistics.fmean(gb for _, gb in memory), 2)


def _drift(batches: list[tuple[Any, ...]]) -> list[float]:
    ordered = [(gold - at).total_seconds() for at, gold, _ in sorted(batches, key=lambda b: b[0]) if gold]
    fifth = max(1, len(ordered) // 5)
    return [round(statistics.median(ordered[:fifth]), 2), round(statistics.median(ordered[-fifth:]), 2)]


if __name__ == "__main__":
    main()
