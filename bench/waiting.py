"""Very many objects waiting at once: the sensors' ticks, and how `c360 sync` takes them in, with which a worker begins too.

    python -m bench.waiting [--objects 100000] [--events 10]

A tenth of them first, for the growth. Beside each tick, in the same process, a bare listing of the same prefix: what S3
takes by itself. Dagster ends a tick after 60 s. Every event is counted in gold at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from bench.parts import Clock, home, land, report, sync
from c360_assets import local
from c360_assets.sensors import EVENTS_SENSOR
from c360_assets.settings import Settings
from c360_assets.warehouse import open_warehouse
from generator.clicks import Visitors, line_of

LISTING_SENSOR = "clickstream_landing_sensor"
QUEUE = {"C360_EVENTS_QUEUE": local.EVENTS_QUEUE}
LOADED = "select count(*), min(loaded_at), max(loaded_at) from staging.object_ledger where feed = 'clickstream'"
LAND_AT_ONCE = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=10, help="in each object (10)")
    parser.add_argument("--tick", nargs=2, metavar=("SENSOR", "HOME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tick:
        print(json.dumps(tick(options.tick[0], home(Path(options.tick[1]), **QUEUE))))
        return
    folder = Path(tempfile.mkdtemp(prefix="c360-waiting-"))
    results: dict[str, Any] = {"events in each object": options.events}
    try:
        for objects in (options.objects // 10, options.objects):
            results[f"{objects:,} objects"] = case(folder, objects, options.events)
            print(json.dumps(results), flush=True)
        report("waiting", results)
    finally:
        shutil.rmtree(folder)


def case(folder: Path, objects: int, events: int) -> dict[str, Any]:
    """Lands them in a home of their own, asks both sensors, and loads them."""
    found: dict[str, Any] = {}
    settings = home(folder / f"of-{objects}", **QUEUE)
    clock = Clock()
    with local.embedded_s3(settings):
        local.landing_bucket(settings).ensure()
        local.object_events(settings)
        with clock.time("land"):
            for some in _bodies(objects, events):
                land(settings, "clickstream", some)
        found["landed a second"] = round(objects / clock.seconds["land"])
        for sensor in (LISTING_SENSOR, EVENTS_SENSOR):
            said = subprocess.run(
                [sys.executable, "-m", "bench.waiting", "--tick", sensor, str(settings.home)],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            found[f"tick of {sensor}"] = json.loads(said.splitlines()[-1])
    with local.embedded_s3(settings), clock.time("sync"):
        peak = sync(settings)
    found["c360 sync"] = _loaded(settings, objects) | {
        "objects a second, with the build": round(objects / clock.seconds["sync"]),
        "peak MB": {name: round(mb) for name, mb in peak.mb_of.items()},
    }
    shutil.rmtree(settings.home)
    if found["c360 sync"]["events in gold"] != objects * events:
        raise SystemExit(f"{found['c360 sync']['events in gold']} of {objects * events} events are in gold")
    return found


def tick(name: str, settings: Settings) -> dict[str, Any]:
    """One tick of the sensor in this process, beside a bare listing."""
    os.environ["C360_HOME"], os.environ["DAGSTER_HOME"] = str(settings.home), str(settings.dagster_home)
    os.environ.update(QUEUE)
    from c360_assets.definitions import build_defs

    clock = Clock()
    bucket = local.landing_bucket(settings)
    with clock.time("bare listing"):
        pages = bucket.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket.name, Prefix=f"{settings.prefix}/clickstream/"
        )
        listed = sum(page["KeyCount"] for page in pages)
    local.prepare_home(settings)
    defs = build_defs(settings)
    sensor = defs.resolve_sensor_def(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        context = dg.build_sensor_context(instance=instance, definitions=defs)
        with clock.time("tick"):
            told = sensor.evaluate_tick(context)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "objects listed": listed,
        "bare listing s": clock.seconds["bare listing"],
        "tick s": clock.seconds["tick"],
        "of the 60 s of a tick": round(clock.seconds["tick"] / 60, 3),
        "runs asked for": len(told.run_requests or ()),
        "bytes of the cursor": len(told.cursor or ""),
        "peak MB, and of that for the tick": [round(after / 1e3), round((after - before) / 1e3)],
    }


def _loaded(settings: Settings, objects: int) -> dict[str, Any]:
    """What the ledger and gold say: how many, how fast, and how fast in the first and the last fifth."""
    with open_warehouse(settings).reading(120) as session:
        ((count, first, last),) = session.rows(LOADED)
        times = session.rows(
            "select loaded_at, count(*) from staging.object_ledger where feed = 'clickstream' group by 1 order by 1"
        )
        ((events,),) = session.rows("select sum(count_events) from gold.real_time_metrics")
    if count != objects:
        raise SystemExit(f"{count} of {objects} objects are in the ledger")
    fifth = max(2, len(times) // 5)
    return {
        "objects a second": round((count - times[0][1]) / (last - first).total_seconds()),
        "the same, first and last fifth of the batches": [_speed(times[:fifth]), _speed(times[-fifth:])],
        "events in gold": int(events),
    }


def _speed(times: list[tuple[Any, ...]]) -> int:
    return round(sum(count for _, count in times[1:]) / (times[-1][0] - times[0][0]).total_seconds())


def _bodies(objects: int, events: int) -> Iterator[list[tuple[str, bytes]]]:
    """Objects of so many events, some thousand at a time, of the last hours."""
    visitors = Visitors(1_000, 200, "waiting")
    begin = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=12)
    for start in range(0, objects, LAND_AT_ONCE):
        some = []
        for number in range(start, min(start + LAND_AT_ONCE, objects)):
            at = begin + timedelta(seconds=40_000 * number / objects)
            lines = [line_of(visitors.next_event(at)) for _ in range(events)]
            some.append((f"clicks_{number:07}.json", b"\n".join(lines) + b"\n"))
        yield some


if __name__ == "__main__":
    main()
