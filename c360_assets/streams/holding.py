"""Holding: what was read of a stream and is not on S3 yet, at most one stretch of each of its parts.

Belongs here: gathering events into stretches, when one is due, and putting it. Memory is bounded by who uses it: while
S3 takes an object, nothing further is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from c360_assets.landing import LandingError, may_pass
from c360_assets.streams import StreamError
from c360_assets.streams.decoding import Decode, Undecodable
from c360_assets.streams.shelf import DeadLetter, Shelf, Stretch

# Seconds between attempts to hear from S3: less in all than a group waits for one of its members.
_PAUSES = (1, 2, 4, 8, 15, 30, 30, 30, 30, 30)
S3_ERRORS = (BotoCoreError, ClientError, LandingError)


@dataclass(frozen=True)
class Limits:
    """When a stretch is landed: after so many seconds, bytes or events, whichever comes first."""

    seconds: float = 1.0
    size: int = 8 * 1024 * 1024
    events: int = 50_000


ONE_SECOND = Limits()


@dataclass
class Progress:
    """What a consumer did since it began; `lag` in the source's own measure."""

    events: int = 0
    objects: int = 0
    dead: int = 0
    lag: int = 0

    def __str__(self) -> str:
        return f"{self.events} events landed in {self.objects} objects, {self.dead} dead letters"


@dataclass(frozen=True)
class Put:
    """What became of one stretch. `was_first`: it is on S3; else another reader has landed what stands there."""

    stretch: Stretch
    was_first: bool


class Holding:
    """The stretches of one consumer, by part."""

    def __init__(self, shelf: Shelf, decode: Decode, limits: Limits, say: Callable[[str], None]) -> None:
        self._shelf, self._decode, self._limits, self._say = shelf, decode, limits, say
        self._held: dict[str, Stretch] = {}
        self._since: dict[str, float] = {}
        self.progress = Progress()

    def take(self, part: str, position: str, value: bytes | None, key: bytes | None, now: float) -> None:
        """One event, in the order of the part; `now`: of time.monotonic().

        Raises:
            StreamError: if it cannot be told what the event says; it is not taken then.
        """
        try:
            if value is None:
                raise Undecodable("empty")
            told: bytes | DeadLetter = self._decode(value)
        except Undecodable as reason:
            told = DeadLetter(position, str(reason), value, key)
        # Not before: a stretch is from its first event on, and one without it would say that it has it.
        held = self._held.get(part)
        if held is None:
            held = self._held[part] = Stretch(part, position, position)
            self._since[part] = now
        if isinstance(told, DeadLetter):
            held.refuse(told)
        else:
            held.add(position, told)

    def of(self, parts: Collection[str] | None = None) -> list[str]:
        """The parts of which something is held, of these or of all."""
        return [part for part in self._held if parts is None or part in parts]

    def due(self, now: float) -> list[str]:
        """The parts whose stretch is to be landed now."""
        return [
            part
            for part, held in self._held.items()
            if now - self._since[part] >= self._limits.seconds
            or held.size >= self._limits.size
            or len(held.values) + len(held.dead) >= self._limits.events
        ]

    def drop(self, part: str) -> None:
        self._held.pop(part, None)
        self._since.pop(part, None)

    def put(self, parts: Sequence[str]) -> list[Put]:
        """Puts once what is held of the parts, side by side, and holds on to what S3 did not take.

        Raises:
            botocore's error, if asking again is of no use.
        """
        if not parts:
            return []
        with ThreadPoolExecutor(max_workers=min(8, len(parts))) as pool:
            outcomes = list(pool.map(self._put, [self._held[part] for part in parts]))
        done = []
        for part, outcome in zip(parts, outcomes, strict=True):
            if isinstance(outcome, Exception):
                if not may_pass(outcome):
                    raise outcome
                self._say(f"S3 takes nothing: {outcome}; trying again")
                continue
            stretch = self._held[part]
            self.drop(part)
            if outcome:
                self.progress.events += len(stretch.values)
                self.progress.dead += len(stretch.dead)
                self.progress.objects += 1
            done.append(Put(stretch, outcome))
        return done

    def landed(self, part: str, since: str | None = None) -> str | None:
        """The last position of the part on S3, from `since` on; waits a while for S3 where it does not answer.

        Raises:
            StreamError: if it does not answer at all.
        """
        for pause in _PAUSES:
            try:
                return self._shelf.last(part, since)
            except S3_ERRORS as error:
                if not may_pass(error):
                    raise
                self._say(f"S3 does not say how far part {part} has come: {error}; trying again")
                time.sleep(pause)
        raise StreamError("S3 does not answer; start again when it does")

    def tell(self, lag: int, measure: str) -> None:
        self.progress.lag = lag
        self._say(f"{self.progress}, lag {lag}{measure}")

    def _put(self, stretch: Stretch) -> bool | Exception:
        try:
            return self._shelf.put(stretch)
        except S3_ERRORS as error:
            return error
