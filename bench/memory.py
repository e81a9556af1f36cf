"""Memory: the same till lines in one object and in very many, loaded and built under a stated bound.

    python -m bench.memory [--lines 5000000] [--objects 50000]

Watched: the resident memory of `c360 sync` and of the dbt that it starts, apart. Receipts of five lines, one after another, as
Firehose writes them. The bound is what the README states.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench.parts import Clock, home, land, report, sync
from c360_assets import local
from c360_assets.warehouse import open_warehouse

# What the README states: C360_MEMORY_MB for DuckDB under dbt, and as much again by half for the two processes.
BOUND_MB = 4_500


def receipt(number: int, chance: random.Random) -> str:
    items = ",".join(
        f'{{"product_id":"P{chance.randrange(5000)}","price":{chance.randrange(100, 9999) / 100},"quantity":{chance.randrange(1, 9)}}}'
        for _ in range(5)
    )
    return (
        f'{{"store_id":"s{number % 20}","city":"Oslo","transaction_id":"t{number}","timestamp":'
        f'"2026-{1 + number % 12:02}-{1 + number % 28:02}T12:00:00Z","items":[{items}],"payment_method":"card","refund":null}}'
    )


def case(work: Path, lines: int, objects: int) -> dict[str, Any]:
    settings = home(work / f"home-{objects}")
    clock = Clock()
    chance = random.Random(objects)
    each = lines // 5 // objects
    with local.embedded_s3(settings):
        if objects == 1:
            path = work / "stream-1"
            with path.open("w") as out:
                for number in range(each):
                    out.write(receipt(number, chance))
            bucket = local.landing_bucket(settings)
            bucket.ensure()
            bucket.client.upload_file(str(path), bucket.name, f"{settings.prefix}/pos/stream-1")
            size = path.stat().st_size
            path.unlink()
        else:
            size = 0
            for start in range(0, objects, 5_000):
                files = []
                for number in range(start, min(start + 5_000, objects)):
                    body = "".join(receipt(number * each + n, chance) for n in range(each)).encode()
                    size += len(body)
                    files.append((f"stream-{number:06}", body))
                land(settings, "pos", files)
        with clock.time("c360 sync"):
            peak = sync(settings)
    with open_warehouse(settings).reading() as session:
        ((count,),) = session.rows("select count(*) from core.pos_line")
    shutil.rmtree(settings.home)
    return {
        "objects": objects,
        "MB received": round(size / 1e6),
        "lines in core": count,
        "seconds": clock.seconds["c360 sync"],
        "peak MB": {name: round(mb) for name, mb in peak.mb_of.items()} | {"together": round(peak.mb)},
        "bound MB": BOUND_MB,
        "within the bound": peak.mb <= BOUND_MB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--objects", type=int, default=50_000)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="c360-bench-"))
    results = {}
    try:
        for objects in (1, options.objects):
            results[f"{options.lines:,} lines in {objects:,} objects"] = case(work, options.lines, objects)
            print(results, flush=True)
    finally:
        shutil.rmtree(work)
    report("memory", results)


if __name__ == "__main__":
    main()
