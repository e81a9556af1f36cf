"""Waiting: what has landed and is not loaded yet, of each feed, as the worker knows it.

Belongs here: hearing of new objects from the queue, listing what no message told of, and whose turn it is. The ledger
says what is new; a message is deleted when its object is loaded. A feed whose objects are loaded and whose laps fail
goes on to have its turn, and what lands meanwhile is loaded with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from botocore.exceptions import BotoCoreError, ClientError

from c360_assets import instants, landing
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, LandingError, Listed
from c360_assets.object_events import Arrival, ObjectEvents
from c360_assets.warehouse import Warehouse, WarehouseBusy, WarehouseRefused

# Seconds between two listings where no queue tells, and where one does; times that a listing rests of what it took.
LIST_ALONE, LIST_BESIDE, LIST_REST = 1.0, 60.0, 20.0
# Seconds to the next attempt, at most: 2, 4, 8, ... Another run may be between its load and its build, and soon over.
LONGEST = 60.0
# Seconds after which the ledger is asked even about what it was known to have.
ASK_ANYWAY = 3600.0
# Objects that count where it is asked whose turn it is: a feed with very many does not hold up all others.
COUNTED = 10
_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


@dataclass
class _Box:
    """What waits of a feed: objects by key with when they were seen, and the last message that told of each version."""

    objects: dict[str, Listed] = field(default_factory=dict)
    seen: dict[str, datetime] = field(default_factory=dict)
    messages: dict[Listed, Arrival] = field(default_factory=dict)
    failures: int = 0
    not_before: float = 0.0
    since: float = 0.0
    lap_seconds: float = 1.0


class Waiting:
    """Of all feeds. `objects`, `size`: of a batch, at most."""

    def __init__(
        self,
        feeds: Mapping[str, Feed],
        bucket: Bucket,
        warehouse: Warehouse,
        open_events: Callable[[], ObjectEvents | None],
        objects: int,
        size: int,
        say: Callable[[str], None],
    ) -> None:
        self._feeds, self._bucket, self._warehouse = feeds, bucket, warehouse
        self._open_events, self._events = open_events, open_events()
        self._objects, self._size, self._say = objects, size, say
        self._boxes = {name: _Box() for name in feeds}
        self._list_at = 0.0
        # Of each feed, what the ledger has said that it has, of what is listed: {key: etag}.
        self._known: dict[str, dict[str, str]] = {}
        self._forget_at = 0.0
        # S3 is listed beside the laps: it takes the longer, the more there is.
        self._lister = ThreadPoolExecutor(1, "listing")
        self._listing: Future[tuple[dict[str, dict[str, Listed]], float]] | None = None

    def due(self) -> list[str]:
        """Feeds of which something waits, to be loaded or to be made of what was, and may be tried."""
        now = time.monotonic()
        return [n for n, box in self._boxes.items() if (box.objects or box.failures) and box.not_before <= now]

    def turn(self) -> str | None:
        """Which feed's turn it is: many objects come before few, short laps before long ones, and who waits long comes
        before both."""
        now = time.monotonic()

        def weight(name: str) -> float:
            box = self._boxes[name]
            return max(1, min(len(box.objects), COUNTED)) * (1 + (now - box.since) / box.lap_seconds) / box.lap_seconds

        return max(self.due(), key=weight, default=None)

    def batch(self, name: str) -> tuple[list[Listed], datetime | None]:
        """The next batch of a feed, and when the first of it was seen; empty where all is loaded, and only what follows
        is not made."""
        box = self._boxes[name]
        plan = landing.plan_batch(box.objects.values(), {}, self._objects, self._size)
        return plan, min((box.seen[each.key] for each in plan), default=None)

    def hear(self, *, wait: bool = True) -> None:
        """What the queue tells; may wait a second where nothing else is to be done."""
        wait = wait and not self.due()
        if self._events is None:
            if wait:
                time.sleep(0.2)
            return
        try:
            arrivals = self._events.receive(int(wait), self._objects)
        except (BotoCoreError, ClientError) as error:
            self._say(f"the queue does not answer: {error}")
            time.sleep(1)
            if isinstance(error, ClientError) and error.response["Error"]["Code"] in _NO_QUEUE:
                self._open_again()
            return
        strange = []
        now = instants.now()
        for arrival in arrivals:
            key = arrival.listed.key
            feed = next((f for f in self._feeds.values() if key.startswith(self._bucket.folder(f))), None)
            if feed is None:
                strange.append(arrival)
                continue
            box = self._boxes[feed.name]
            # What is told of again comes with another handle, and the last one counts.
            box.messages[arrival.listed] = arrival
            # Events of one key may come in any order: the latest tells what is there.
            before = box.objects.get(key)
            if before is None or before.last_modified <= arrival.listed.last_modified:
                box.objects[key] = arrival.listed
            _saw(box, key, now)
        try:
            self._events.done(strange)
        except (BotoCoreError, ClientError) as error:
            self._say(f"the queue keeps {len(strange)} messages: {error}")

    def _open_again(self) -> None:
        """An embedded S3 that was killed has forgotten its queues."""
        try:
            self._events = self._open_events()
        except (BotoCoreError, ClientError, LandingError) as error:
            self._say(f"the queue cannot be had: {error}")
        self._list_at, self._listing = 0.0, None

    def list_now_and_then(self) -> None:
        """What no message told of, if it is time again, or a listing has come to its end."""
        if self._listing is None:
            if time.monotonic() >= self._list_at:
                self._listing = self._lister.submit(self._list)
            return
        if not self._listing.done():
            return
        listing, self._listing, took = self._listing, None, 0.0
        try:
            there, took = listing.result()
            self._take(there)
        except (BotoCoreError, ClientError, LandingError, WarehouseBusy, WarehouseRefused) as error:
            if isinstance(error, WarehouseRefused) and not error.passes:
                raise
            self._say(f"what is new could not be listed: {error}")
        every = LIST_ALONE if self._events is None else LIST_BESIDE
        self._list_at = time.monotonic() + max(every, took * LIST_REST)

    def _list(self) -> tuple[dict[str, dict[str, Listed]], float]:
        """{feed: its objects by key}, and how many seconds it took."""
        began = time.monotonic()
        there = {name: {o.key: o for o in self._bucket.listed(feed)} for name, feed in self._feeds.items()}
        return there, time.monotonic() - began

    def _take(self, there: Mapping[str, Mapping[str, Listed]]) -> None:
        """The ledger is asked after S3 was: what was loaded meanwhile is known. It is asked only where something is
        listed of which neither it nor a message has told before: no warehouse that sleeps is woken for nothing."""
        if time.monotonic() >= self._forget_at:
            self._known = {name: {} for name in self._feeds}
            self._forget_at = time.monotonic() + ASK_ANYWAY
        asked = {}
        for name, objects in there.items():
            waiting = {key: each.etag for key, each in self._boxes[name].objects.items()}
            self._known[name] = {key: etag for key, etag in self._known[name].items() if key in objects}
            told = self._known[name] | waiting
            if any(told.get(key) != each.etag for key, each in objects.items()):
                asked[name] = objects
        if not asked:
            return
        with self._warehouse.reading() as session:
            for name, objects in asked.items():
                ledger = landing.known_etags(session, self._feeds[name])
                self._known[name] = {key: etag for key, etag in ledger.items() if key in objects}
                box, now = self._boxes[name], instants.now()
                for key, each in objects.items():
                    if ledger.get(key) != each.etag:
                        box.objects.setdefault(key, each)
                        _saw(box, key, now)

    def is_again(self, name: str) -> bool:
        """Did the last lap of the feed not work?"""
        return self._boxes[name].failures > 0

    def failed(self, name: str, plan: Sequence[Listed], seconds: float) -> float:
        """A lap of the feed did not work, after so many seconds; returns the seconds until it is due again.

        What of its batch was loaded waits no more: were it planned again and again, nothing that came later would ever
        be loaded, and what ends the failure might be among it.
        """
        box = self._boxes[name]
        box.lap_seconds = (box.lap_seconds + seconds) / 2
        box.failures += 1
        try:
            with self._warehouse.reading() as session:
                ledger = landing.known_etags(session, self._feeds[name], [each.key for each in plan]) if plan else {}
            self._leave(name, [each for each in plan if ledger.get(each.key) == each.etag])
        except (WarehouseBusy, WarehouseRefused) as error:
            self._say(f"what the ledger has of the lap could not be asked: {error}")
        pause = min(2.0**box.failures, LONGEST)
        box.not_before = time.monotonic() + pause
        return pause

    def done(self, name: str, plan: Sequence[Listed], seconds: float) -> None:
        """The batch is loaded, and what follows is made, in so many seconds."""
        box = self._boxes[name]
        box.lap_seconds = (box.lap_seconds + seconds) / 2
        box.failures, box.not_before, box.since = 0, 0.0, time.monotonic()
        self._leave(name, plan)

    def _leave(self, name: str, loaded: Sequence[Listed]) -> None:
        """They wait no more, and no message tells of them."""
        box = self._boxes[name]
        for each in loaded:
            if box.objects[each.key].etag == each.etag:
                del box.objects[each.key]
                del box.seen[each.key]
            self._known.get(name, {}).pop(each.key, None)
        if self._events is not None:
            told = [m for listed, m in box.messages.items() if listed.key not in box.objects]
            box.messages = {listed: m for listed, m in box.messages.items() if listed.key in box.objects}
            try:
                self._events.done(told)
            except (BotoCoreError, ClientError) as error:
                # They come again, and the ledger knows their objects by then.
                self._say(f"the queue keeps {len(told)} messages: {error}")


def _saw(box: _Box, key: str, now: datetime) -> None:
    if not box.seen:
        box.since = time.monotonic()
    box.seen.setdefault(key, now)
