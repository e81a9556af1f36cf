"""Kafka: a consumer that lands what a topic brings as objects of a feed, each event once.

Belongs here: reading a topic, and nothing about what the events mean. How far a partition has come stands on S3 (see
shelf.py); an offset is committed only after its object is there, and where the two differ S3 is right. Memory is
bounded: while S3 takes an object, nothing further is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from c360_assets.streams import StreamError
from c360_assets.streams.decoding import Decode
from c360_assets.streams.holding import ONE_SECOND, Holding, Limits, Progress
from c360_assets.streams.shelf import DeadLetter, Shelf, Stretch

SOURCE, DIGITS = "kafka", 20
_AT_ONCE = 5_000
_TOLD_EVERY = 10.0
_AWAY = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE)


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
        "fetch.wait.max.ms": 250,
    }
    return Consumer(settings | more)


def topic_id(
    bootstrap: str,
    topic: str,
    more: Mapping[str, str],
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: None,
) -> str:
    """What tells the topic from a former one of its name; empty where the broker has no such ids, or no such topic.

    Waits for a broker that does not answer, as a consumer does.

    Raises:
        StreamError: if the broker refuses.
    """
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, **more}
    admin = AdminClient(settings)
    while not stop():
        try:
            asked = admin.describe_topics(TopicCollection([topic]), request_timeout=5)[topic]
            return str(asked.result().topic_id or "")
        except KafkaException as error:
            code, text = error.args[0].code(), error.args[0].str()
            if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNSUPPORTED_FEATURE):
                return ""
            if code not in (*_AWAY, KafkaError._TIMED_OUT):
                raise StreamError(f"topic '{topic}': {text}") from error
            say(f"{bootstrap} does not answer: {text}")
    return ""


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
        limits: Limits = ONE_SECOND,
        say: Callable[[str], None] = lambda text: None,
        *,
        skips_lost: bool = False,
        trusts_commits: bool = True,
    ) -> None:
        self._consumer, self._topic, self._shelf = consumer, topic, shelf
        self._limits, self._say, self._skips_lost = limits, say, skips_lost
        self._trusts_commits = trusts_commits
        self._holding = Holding(shelf, decode, limits, say)
        self._came = 0.0

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
                if due := self._holding.due(now):
                    self._land(due)
                    self._came = time.monotonic()  # who waits for S3 is not idle
                if now - told > _TOLD_EVERY:
                    told = now
                    self._holding.tell(sum(self._lags()), " events")
            self._land(self._holding.of())
        except KafkaException as error:
            raise StreamError(f"topic '{self._topic}': {error.args[0].str()}") from error
        finally:
            self._consumer.close()
        return self._holding.progress

    def _take(self, message: Message, now: float) -> None:
        error = message.error()
        if error is not None:
            self._met(error)
            return
        part, position = str(message.partition() or 0), str(message.offset())
        self._holding.take(part, position, message.value(), message.key(), now)

    def _met(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF or (error.retriable() and not error.fatal()):
            return
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise StreamError(
                f"topic '{self._topic}': the broker does not have what comes next: {error.str()}. Start again: if it "
                "was deleted, it is then told which offsets are lost; if this comes again, the broker's log has lost "
                "its end: say --landed-as NAME to land what comes now beside the former, and not over it"
            )
        if error.code() in _AWAY:
            return  # librdkafka tries again for ever
        raise StreamError(f"topic '{self._topic}': {error.str()}")

    def _land(self, parts: Sequence[str]) -> None:
        """Puts what is held of the partitions and commits it; waits for S3 as long as it takes."""
        while left := self._holding.of(parts):
            self._put(left)
            if self._holding.of(left):
                self._wait()

    def _put(self, parts: Sequence[str]) -> None:
        for put in self._holding.put(parts):
            part = int(put.stretch.part)
            if put.was_first:
                self._commit(part, int(put.stretch.last) + 1)
            else:
                self._resume(part, put.stretch.first)

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
        known = committed.offset if committed.offset >= 0 and self._trusts_commits else None
        landed = self._holding.landed(str(committed.partition), None if known is None else str(known))
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
        self._put(self._holding.of([str(each.partition) for each in partitions]))
        self._lost(_, partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._holding.drop(str(each.partition))

    def _lags(self) -> Iterator[int]:
        for each in self._consumer.position(self._consumer.assignment()):
            _, high = self._consumer.get_watermark_offsets(each, cached=True)
            if each.offset >= 0:
                yield max(0, high - each.offset)
