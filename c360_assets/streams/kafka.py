"""Kafka: a consumer that lands what a topic brings as objects of a feed, each event once.

Belongs here: reading a topic, and nothing about what the events mean. How far a partition has come stands on S3 (see
shelf.py); an offset is committed only after its object is there, and where the two differ S3 is right. Memory is
bounded: while S3 takes an object, nothing further is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from c360_assets.landing import LandingError, may_pass
from c360_assets.streams import StreamError
from c360_assets.streams.decoding import Decode, Undecodable
from c360_assets.streams.shelf import DeadLetter, Shelf, Stretch

SOURCE, DIGITS = "kafka", 20
_AT_ONCE = 5_000
_TOLD_EVERY = 10.0
_S3 = (BotoCoreError, ClientError, LandingError)


@dataclass(frozen=True)
class Limits:
    """When a stretch is landed: after so many seconds, bytes or events, whichever comes first."""

    seconds: float = 1.0
    size: int = 8 * 1024 * 1024
    events: int = 50_000


@dataclass
class Progress:
    """What a consumer did since it began."""

    events: int = 0
    objects: int = 0
    dead: int = 0
    lag: int = 0


def consumer_of(bootstrap: str, group: str, more: dict[str, str]) -> Consumer:
    """A consumer that commits nothing by itself and holds little ahead. `more`: librdkafka's own settings."""
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Where to begin is said at each assignment; what the broker no longer has is an error, and not skipped.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": 32_768,
        "fetch.message.max.bytes": 8 * 1024 * 1024,
        "fetch.wait.max.ms": 100,
    }
    return Consumer(settings | more)


def properties(path: Path) -> dict[str, str]:
    """librdkafka's settings of a file, `name=value` a line; # begins a comment.

    Raises:
        StreamError: for a line that is none.
    """
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            name, is_setting, value = text.partition("=")
            if not is_setting:
                raise StreamError(f"{path}: line {number}: '{text}' is no setting; say name=value")
            found[name.strip()] = value.strip()
    return found


class KafkaLanding:
    """One consumer of one topic. `run` goes on until `stop` says so."""

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        shelf: Shelf,
        decode: Decode,
        limits: Limits = Limits(),
        say: Callable[[str], None] = lambda text: None,
        *,
        skips_lost: bool = False,
    ) -> None:
        self._consumer, self._topic, self._shelf, self._decode = consumer, topic, shelf, decode
        self._limits, self._say, self._skips_lost = limits, say, skips_lost
        self._held: dict[int, Stretch] = {}
        self._since: dict[int, float] = {}
        self._came = 0.0
        self.progress = Progress()

    def run(self, stop: Callable[[], bool], idle: float | None = None) -> Progress:
        """Lands until `stop`, or until nothing came for `idle` seconds; then what is held is landed too.

        Raises:
            StreamError: if the broker refuses, or no longer has what was not read yet.
        """
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        told = self._came = time.monotonic()
        at_once = min(_AT_ONCE, self._limits.events)
        try:
            while not stop():
                messages = self._consumer.consume(at_once, timeout=min(0.1, self._limits.seconds))
                now = time.monotonic()
                for message in messages:
                    self._take(message, now)
                if messages:
                    self._came = now
                elif idle is not None and now - self._came > idle and self._consumer.assignment():
                    break
                self._land([part for part, held in self._held.items() if self._is_due(part, held, now)])
                if now - told > _TOLD_EVERY:
                    told = now
                    self._tell()
            self._land(list(self._held))
        except KafkaException as error:
            raise StreamError(f"topic '{self._topic}': {error.args[0].str()}") from error
        finally:
            self._consumer.close()
        return self.progress

    def _take(self, message: Message, now: float) -> None:
        error = message.error()
        if error is not None:
            self._met(error)
            return
        part, position, value = int(message.partition() or 0), str(message.offset()), message.value()
        held = self._held.get(part)
        if held is None:
            held = self._held[part] = Stretch(str(part), position, position)
            self._since[part] = now
        try:
            if value is None:
                raise Undecodable("empty")
            held.add(position, self._decode(value))
        except Undecodable as reason:
            held.refuse(DeadLetter(position, str(reason), value, message.key()))

    def _met(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF or (error.retriable() and not error.fatal()):
            return
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise StreamError(
                f"topic '{self._topic}': the broker no longer has what was not read yet: {error.str()}. "
                "Start again: it is then told which offsets are lost"
            )
        if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE):
            return  # librdkafka tries again for ever
        raise StreamError(f"topic '{self._topic}': {error.str()}")

    def _is_due(self, part: int, held: Stretch, now: float) -> bool:
        return (
            now - self._since[part] >= self._limits.seconds
            or held.size >= self._limits.size
            or len(held.values) >= self._limits.events
        )

    def _land(self, parts: Sequence[int]) -> None:
        """Puts what is held of the partitions and commits it; waits for S3 as long as it takes."""
        while left := [part for part in parts if part in self._held]:
            if self._landed(left):
                self._wait()

    def _landed(self, parts: Sequence[int]) -> bool:
        """Puts once what is held of the partitions; is something left, because S3 did not answer?"""
        with ThreadPoolExecutor(max_workers=min(8, len(parts))) as pool:
            outcomes = list(pool.map(self._put, [self._held[part] for part in parts]))
        is_left = False
        for part, outcome in zip(parts, outcomes, strict=True):
            stretch = self._held[part]
            if isinstance(outcome, Exception):
                if not may_pass(outcome):
                    raise outcome
                is_left = True
                self._say(f"S3 takes nothing: {outcome}; trying again")
                continue
            self._drop(part)
            if outcome:
                self.progress.events += len(stretch.values)
                self.progress.dead += len(stretch.dead)
                self.progress.objects += 1
                self._commit(part, int(stretch.last) + 1)
            else:
                self._resume(part, stretch.first)
        return is_left

    def _put(self, stretch: Stretch) -> bool | Exception:
        try:
            return self._shelf.put(stretch)
        except _S3 as error:
            return error

    def _commit(self, part: int, offset: int) -> None:
        try:
            self._consumer.commit(offsets=[TopicPartition(self._topic, part, offset)], asynchronous=False)
        except KafkaException as error:
            # S3 has it; whoever reads on from here looks there.
            self._say(f"partition {part}: offset {offset} is not committed: {error.args[0].str()}")

    def _resume(self, part: int, first: str) -> None:
        """Another reader was here first: on from where it has come to."""
        last = self._shelf.last(str(part), first)
        assert last is not None  # its object stands where ours was to be
        self._say(f"partition {part}: another consumer has landed what follows offset {first}; going on behind it")
        if part in {each.partition for each in self._consumer.assignment()}:
            self._consumer.seek(TopicPartition(self._topic, part, int(last) + 1))

    def _wait(self) -> None:
        """A moment in which nothing is read and the group still hears of us."""
        assigned = self._consumer.assignment()
        self._consumer.pause(assigned)
        message = self._consumer.poll(1.0)
        if message is not None:
            self._take(message, time.monotonic())
        self._consumer.resume([each for each in self._consumer.assignment() if each in assigned])

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in consumer.committed(partitions, timeout=30):
            place = next(p for p in partitions if p.partition == each.partition)
            place.offset = self._start(consumer, each)
            self._say(f"partition {place.partition}: from offset {place.offset}")
        consumer.assign(partitions)
        self._came = time.monotonic()

    def _start(self, consumer: Consumer, committed: TopicPartition) -> int:
        known = committed.offset if committed.offset >= 0 else None
        for pause in _pauses():
            try:
                landed = self._shelf.last(str(committed.partition), None if known is None else str(known))
                break
            except _S3 as error:
                if not may_pass(error):
                    raise
                self._say(f"S3 does not say how far partition {committed.partition} has come: {error}; trying again")
                time.sleep(pause)
        else:
            raise StreamError("S3 does not answer; start again when it does")
        start = max(known or 0, int(landed) + 1 if landed is not None else 0)
        low, _ = consumer.get_watermark_offsets(committed, timeout=30)
        if known is None and landed is None:
            return int(low)
        if low <= start:
            return start
        lost = f"offsets {start} to {low - 1} were deleted by the broker before they were read"
        if not self._skips_lost:
            raise StreamError(
                f"topic '{self._topic}', partition {committed.partition}: {lost}. Those events are lost; "
                "say --skip-lost to note that as a dead letter and to go on with what there is"
            )
        self._say(f"partition {committed.partition}: {lost}")
        gap = Stretch(str(committed.partition), str(start), str(start))
        gap.refuse(DeadLetter(str(low - 1), f"lost: {lost}", None))
        self._shelf.put(gap)
        return int(low)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Once, because the group waits: what S3 does not take now, whoever gets the partition reads again."""
        if held := [each.partition for each in partitions if each.partition in self._held]:
            self._landed(held)
        self._lost(_, partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._drop(each.partition)

    def _drop(self, part: int) -> None:
        self._held.pop(part, None)
        self._since.pop(part, None)

    def _tell(self) -> None:
        done = self.progress
        done.lag = sum(self._lags())
        self._say(f"{done.events} events landed in {done.objects} objects, {done.dead} dead letters, lag {done.lag}")

    def _lags(self) -> Iterator[int]:
        for each in self._consumer.position(self._consumer.assignment()):
            _, high = self._consumer.get_watermark_offsets(each, cached=True)
            if each.offset >= 0:
                yield max(0, high - each.offset)


def _pauses() -> Iterator[float]:
    """Seconds: less in all than a group waits for one of its members."""
    yield from (1, 2, 4, 8, 15, 30, 30, 30, 30, 30)
