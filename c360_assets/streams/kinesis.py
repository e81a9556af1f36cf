"""Kinesis: a consumer that lands what a stream of Kinesis brings as objects of a feed, each record once.

Belongs here: reading shards, and nothing about what the records mean. How far a shard has come stands on S3 (see
shelf.py) and nowhere else, so there is no table of checkpoints; two consumers of one stream land each record once, and
only read it twice. A shard that was split or merged is read to its end before its children are begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from c360_assets.landing import may_pass
from c360_assets.streams import StreamError
from c360_assets.streams.decoding import Decode
from c360_assets.streams.holding import ONE_SECOND, Holding, Limits, Progress
from c360_assets.streams.shelf import Shelf

# Sequence numbers have up to 129 digits, by Kinesis's own description.
SOURCE, DIGITS = "kinesis", 129
_AT_ONCE = 10_000
_TOLD_EVERY = 10.0
# Seconds between two looks at one shard, of which Kinesis allows five a second, and between two at the list of shards.
_LOOK, _LIST = 0.25, 10.0
_SLOW_DOWN = ("ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException")


@dataclass
class _Shard:
    """`taken`: the last record that was read, landed or held; `iterator`: where the next look begins, if known."""

    name: str
    taken: str | None = None
    iterator: str | None = None
    is_open: bool = True
    behind: int = 0


class KinesisLanding:
    """One consumer of one stream. `run` goes on until `stop` says so."""

    def __init__(
        self,
        client: Any,
        stream: str,
        shelf: Shelf,
        decode: Decode,
        limits: Limits = ONE_SECOND,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._client, self._stream, self._shelf = client, stream, shelf
        self._limits, self._say = limits, say
        self._holding = Holding(shelf, decode, limits, say)
        self._shards: dict[str, _Shard] = {}
        self._ended: set[str] = set()

    def run(self, stop: Callable[[], bool], idle: float | None = None) -> Progress:
        """Lands until `stop`, or until nothing came for `idle` seconds; then what is held is landed too.

        Raises:
            StreamError: if there is no such stream, or it may not be read.
        """
        began = came = told = time.monotonic()
        listed = began - _LIST
        with ThreadPoolExecutor(max_workers=8) as pool:
            while not stop():
                began = time.monotonic()
                if began - listed >= _LIST or not self._shards:
                    self._list()
                    listed = began
                read = list(pool.map(self._look, self._shards.values()))
                now = time.monotonic()
                for shard, records in zip(list(self._shards.values()), read, strict=True):
                    for record in records:
                        shard.taken = record["SequenceNumber"]
                        key = record["PartitionKey"].encode()
                        self._holding.take(shard.name, shard.taken, record["Data"], key, now)
                if any(read):
                    came = now
                elif idle is not None and now - came > idle:
                    break
                self._land(self._holding.due(now))
                if self._end():
                    listed = now - _LIST
                if now - told > _TOLD_EVERY:
                    told = now
                    self._holding.tell(max((s.behind for s in self._shards.values()), default=0), " ms")
                time.sleep(max(0.0, _LOOK - (time.monotonic() - began)))
        self._land(self._holding.of())
        return self._holding.progress

    def _list(self) -> None:
        """The shards that may be read now: those whose parents are read to their end, or have passed away."""
        listed = self._told()
        if listed is None:
            return
        found = {told["ShardId"]: told for told in listed}
        self._ended &= found.keys()
        for name, told in found.items():
            if name in self._shards or name in self._ended:
                continue
            parents = {told.get("ParentShardId"), told.get("AdjacentParentShardId")}
            if parents & found.keys() <= self._ended:
                shard = self._shards[name] = _Shard(name)
                shard.taken = self._holding.landed(name)
                self._say(f"{name}: from {'its beginning' if shard.taken is None else f'behind {shard.taken}'}")

    def _told(self) -> list[Mapping[str, Any]] | None:
        """All shards; None where Kinesis did not tell them to the end: a shard left out would look as if it is gone."""
        asked: dict[str, str] = {"StreamName": self._stream}
        told: list[Mapping[str, Any]] = []
        while True:
            answer = self._asked("list_shards", **asked)
            if answer is None:
                return None
            told += answer["Shards"]
            if "NextToken" not in answer:
                return told
            asked = {"NextToken": answer["NextToken"]}

    def _look(self, shard: _Shard) -> list[Mapping[str, Any]]:
        """What has come; nothing too where Kinesis does not answer, and then it is asked again."""
        try:
            if shard.iterator is None:
                shard.iterator = self._iterator(shard)
                if shard.iterator is None:
                    return []
            answer = self._asked("get_records", ShardIterator=shard.iterator, Limit=min(_AT_ONCE, self._limits.events))
        except ClientError as error:
            match error.response["Error"]["Code"]:
                case "ExpiredIteratorException":
                    shard.iterator = None
                case "ResourceNotFoundException":
                    self._say(f"{shard.name} is gone, with what was not read of it")
                    shard.is_open = False
                case _:
                    raise
            return []
        if answer is None:
            return []
        shard.iterator, shard.behind = answer.get("NextShardIterator"), int(answer.get("MillisBehindLatest", 0))
        shard.is_open = shard.iterator is not None
        return list(answer["Records"])

    def _iterator(self, shard: _Shard) -> str | None:
        where: dict[str, str] = {"ShardIteratorType": "TRIM_HORIZON"}
        if shard.taken is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": shard.taken}
        answer = self._asked("get_shard_iterator", StreamName=self._stream, ShardId=shard.name, **where)
        return None if answer is None else str(answer["ShardIterator"])

    def _asked(self, call: str, **more: Any) -> Mapping[str, Any] | None:
        """Kinesis's answer; None where it is busy or away, which passes.

        Raises:
            StreamError: if there is no such stream, or it may not be read.
            ClientError: of what only the caller can judge.
        """
        try:
            answer: Mapping[str, Any] = getattr(self._client, call)(**more)
            return answer
        except ClientError as error:
            code, text = (error.response["Error"].get(each, "") for each in ("Code", "Message"))
            if code in _SLOW_DOWN or may_pass(error):
                return None
            if code in ("ExpiredIteratorException", "ResourceNotFoundException") and call != "list_shards":
                raise
            raise StreamError(f"stream '{self._stream}': {code}: {text}") from error
        except BotoCoreError as error:
            self._say(f"Kinesis does not answer: {error}; trying again")
            time.sleep(1)
            return None

    def _land(self, parts: list[str]) -> None:
        """Puts what is held of the shards; waits for S3 as long as it takes, and reads nothing meanwhile."""
        while left := self._holding.of(parts):
            for put in self._holding.put(left):
                if not put.was_first:
                    self._resume(self._shards[put.stretch.part], put.stretch.first)
            if self._holding.of(left):
                time.sleep(1)

    def _resume(self, shard: _Shard, first: str) -> None:
        """Another reader was here first: on from where it has come to."""
        shard.taken, shard.iterator, shard.is_open = self._shelf.last(shard.name, first), None, True
        self._say(f"{shard.name}: another consumer has landed what follows {first}; going on behind it")

    def _end(self) -> bool:
        """Lays closed shards aside, when all of them is on S3; was there one?"""
        closed = [name for name, shard in self._shards.items() if not shard.is_open]
        self._land(closed)
        # One that another consumer has landed is looked at again.
        done = [name for name in closed if not self._shards[name].is_open]
        for name in done:
            del self._shards[name]
            self._ended.add(name)
            self._say(f"{name} is read to its end")
        return bool(done)
