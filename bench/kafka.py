"""As many events a second as one consumer lands on S3, beside a bare consumer that only reads the same topic.

Broker, S3 and consumer share the machine. Each is a process of its own; the topic is filled before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path

from confluent_kafka import Producer

from bench.parts import C360, report
from c360_assets import local
from c360_assets.settings import Settings
from c360_assets.streams import broker
from generator.clicks import Visitors, line_of

PARTITIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="c360-kafka-") as folder,
        broker.running(local.free_port(), Path(folder) / "log") as bootstrap,
    ):
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        broker.ensure_topic(bootstrap, topic, PARTITIONS)
        size = fill(bootstrap, topic, options.events)
        bare, landed = [], []
        # Turn and turn about, so that what the machine does beside befalls both.
        for turn in range(options.times):
            bare.append(options.events / read(bootstrap, topic))
            landed.append(options.events / land(bootstrap, topic, Path(folder) / f"home{turn}", options.events))
    told = {
        "events": options.events,
        "bytes an event": round(size / options.events),
        "bare consumer, events a second": [round(each) for each in bare],
        "landed on S3, events a second": [round(each) for each in landed],
        "share of the bare one": [round(one / other, 2) for one, other in zip(landed, bare, strict=True)],
    }
    report("kafka", told)


def fill(bootstrap: str, topic: str, events: int) -> int:
    """Sends generated clicks; the bytes they have."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    visitors, start, size = Visitors(10_000, 1_000, 1), datetime(2026, 3, 1), 0
    for number in range(events):
        value = line_of(visitors.next_event(start + timedelta(milliseconds=number)))
        size += len(value)
        while True:
            try:
                producer.produce(topic, value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(120) == 0
    return size


def read(bootstrap: str, topic: str) -> float:
    """Seconds from the first event read to the last, by a consumer that does nothing with them."""
    code = f"""
import time
from confluent_kafka import Consumer, TopicPartition
c = Consumer({{"bootstrap.servers": {bootstrap!r}, "group.id": "bare", "enable.auto.commit": False, "fetch.wait.max.ms": 100}})
c.assign([TopicPartition({topic!r}, p, 0) for p in range({PARTITIONS})])
first = last = None
while True:
    got = c.consume(5000, timeout=1.5)
    if got:
        first, last = first or time.monotonic(), time.monotonic()
    elif first:
        break
print(last - first)
"""
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def land(bootstrap: str, topic: str, home: Path, events: int) -> float:
    """Seconds from the assignment to the last object, of `c360 stream kafka` into a new home."""
    settings = Settings.load({"C360_HOME": str(home)})
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("C360_", "AWS_"))} | {
        "C360_HOME": str(home)
    }
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        process = subprocess.Popen(
            [C360, "stream", "kafka", "--topic", topic, "--group", f"g-{home.name}",
             "--bootstrap", bootstrap, "--idle", "5"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        began = 0.0
        for line in process.stderr:
            if "from offset" in line:
                began = time.time()
                break
        out = process.communicate()[0]
        assert out.startswith(f"{events} events landed"), out
        pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix="stream_data/")
        last = max(found["LastModified"].timestamp() for page in pages for found in page["Contents"])
    return last - began


if __name__ == "__main__":
    main()
