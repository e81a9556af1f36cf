"""Clicks as they happen: events of now, at a set rate, to a broker or as small objects, until one has had enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from itertools import chain
from typing import Any, Protocol

from generator.clicks import Event, Visitors, line_of
from generator.objects import GeneratedObject
from generator.sink import SinkError, open_sink

_TICKS = 10  # a second
# Seconds that a broker may take at the end to have everything.
_CLOSING = 300.0
# Records that Kinesis takes in one call, and how often in a row it may refuse some of them.
_AT_ONCE, _REFUSALS = 500, 12


@dataclass
class Sent:
    """What was sent, so that it can be counted at the other end."""

    events: int = 0
    purchases: int = 0
    revenue: Decimal = Decimal(0)

    def add(self, event: Event) -> None:
        self.events += 1
        if event["event_type"] == "purchase":
            self.purchases += 1
            self.revenue += Decimal(event["amount"])


class Outlet(Protocol):
    """Takes events in bunches."""

    def put(self, lines: Sequence[bytes], keys: Sequence[bytes]) -> None:
        """Returns when they are handed over."""

    def close(self) -> None:
        """Returns when all of them have arrived."""


def send(visitors: Visitors, outlet: Outlet, rate: float, seconds: float | None, stop: Callable[[], bool]) -> Sent:
    """Events of now at `rate` a second, for so many seconds or until `stop`. What is late is made up for."""
    sent, began = Sent(), time.monotonic()
    while not stop():
        passed = time.monotonic() - began
        if seconds is not None and passed >= seconds:
            break
        lines, keys = [], []
        for _ in range(int(rate * passed) - sent.events):
            event = visitors.next_event(datetime.now(UTC).replace(tzinfo=None))
            lines.append(line_of(event))
            keys.append(str(event["session_id"]).encode())
            sent.add(event)
        if lines:
            outlet.put(lines, keys)
        time.sleep(max(0.0, 1 / _TICKS - (time.monotonic() - began - passed)))
    outlet.close()
    return sent


class _Kafka:
    """A topic; events of one session go to one partition."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        library: Any = import_module("confluent_kafka")
        self._topic = topic
        # What the broker refused, a broker that dies and comes back for one: sent again, the same bytes.
        self._refused: list[tuple[bytes, bytes]] = []
        self._reason = ""
        # Each batch is an object where a broker keeps all on S3, as that of `make up` does, which lists them to read.
        self._producer = library.Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 500, "message.timeout.ms": 300_000, "acks": "all"}
        )

    def put(self, lines: Sequence[bytes], keys: Sequence[bytes]) -> None:
        again, self._refused = self._refused, []
        for line, key in chain(again, zip(lines, keys, strict=True)):
            while True:
                try:
                    self._producer.produce(self._topic, line, key, on_delivery=self._delivered)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.poll(0)

    def close(self) -> None:
        until = time.monotonic() + _CLOSING
        while left := self._producer.flush(max(1.0, until - time.monotonic())) + len(self._refused):
            if time.monotonic() >= until:
                raise SinkError(f"{left} events did not arrive at the broker: {self._reason or 'it does not answer'}")
            time.sleep(0.5)
            self.put((), ())

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._reason = str(error)
            self._refused.append((message.value(), message.key()))


class _Kinesis:
    """A stream; events of one session go to one shard."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._errors = import_module("botocore.exceptions").ClientError
        self._client: Any = import_module("boto3").client("kinesis")

    def put(self, lines: Sequence[bytes], keys: Sequence[bytes]) -> None:
        left = [{"Data": line, "PartitionKey": key.decode()} for line, key in zip(lines, keys, strict=True)]
        refusals = 0
        while left:
            taken, left = left[:_AT_ONCE], left[_AT_ONCE:]
            try:
                answer = self._client.put_records(StreamName=self._stream, Records=taken)
            except self._errors as failure:
                raise SinkError(str(failure)) from failure
            # Of a bunch some may be refused, because a shard is too busy.
            refused = [each for each, told in zip(taken, answer["Records"], strict=True) if "ErrorCode" in told]
            left = refused + left
            if refused:
                refusals += 1
                if refusals > _REFUSALS:
                    raise SinkError(f"stream '{self._stream}' is too busy: {len(left)} events did not arrive")
                time.sleep(min(0.1 * 2**refusals, 10))

    def close(self) -> None:
        """Each event has arrived when it was put."""


class _Objects:
    """Objects of a folder or of S3, one for each bunch."""

    def __init__(self, out: str) -> None:
        self._sink, self._count = open_sink(out), 0

    def put(self, lines: Sequence[bytes], keys: Sequence[bytes]) -> None:
        now = datetime.now(UTC).replace(tzinfo=None)
        name = f"clickstream/live_{now:%Y%m%dT%H%M%S}_{self._count:06d}.json"
        self._sink.put(GeneratedObject(name, b"\n".join(lines) + b"\n", self._count, now))
        self._count += 1

    def close(self) -> None:
        """Each object has arrived when it was put."""


def open_outlet(out: str) -> Outlet:
    """Of `kafka://HOST:PORT/TOPIC`, `kinesis://STREAM`, `s3://BUCKET/PREFIX` or a folder's path."""
    scheme, _, rest = out.partition("://")
    if scheme == "kafka":
        bootstrap, _, topic = rest.partition("/")
        if not bootstrap or not topic:
            raise ValueError(f"{out!r} names no topic: kafka://HOST:PORT/TOPIC")
        return _Kafka(bootstrap, topic)
    if scheme == "kinesis":
        if not rest:
            raise ValueError(f"{out!r} names no stream: kinesis://STREAM")
        return _Kinesis(rest)
    return _Objects(out)
