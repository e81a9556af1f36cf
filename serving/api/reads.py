"""Reads: the questions that are put to the serving store, and their answers as bytes of JSON.

Belongs here: SQL with bound values, masking, pages. A row's two JSON objects are joined as text, and never read,
wherever nothing of them has to be known.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from c360_assets import instants
from c360_assets.store import Store, StoreRefused, file_of
from serving.api.problems import Problem

log = logging.getLogger(__name__)
Row = Sequence[Any]
Questions = Sequence[tuple[str, Mapping[str, Any]]]
# Seconds between two looks for another file in the store's place: a restore puts one there.
LOOK = 0.1
GENERATION = "select generation || ' ' || batch from served"


class Reads:
    """The store, asked from an event loop: SQLite at once, for it takes microseconds; a server in a thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None
        self._look_at = 0.0
        self._told = ""  # once: thousands a second may ask

    async def rows(self, sql: str, values: Mapping[str, Any]) -> Sequence[Row]:
        (found,) = await self._asked([(sql, values)])
        return found

    async def of_generation(self, sql: str, values: Mapping[str, Any]) -> tuple[str, Sequence[Row]]:
        """The number of the generation and its newest batch, and rows of it, whatever is written meanwhile."""
        served, found = await self._asked([(GENERATION, {}), (sql, values)])
        if not served:
            raise nothing_served()
        return str(served[0][0]), found

    async def _asked(self, questions: Questions) -> list[Sequence[Row]]:
        """What several questions give of one state of the store."""
        try:
            if self._store.url.get_backend_name() != "sqlite":
                return await asyncio.to_thread(self._of_server, questions)
            return self._of_file(questions)
        except (sqlite3.OperationalError, DBAPIError, StoreRefused) as error:
            # What went wrong is for who runs it: an answer names no server and no statement.
            if str(error) != self._told:
                log.warning("the serving store does not answer: %s", error)
                self._told = str(error)
            raise nothing_served() from error

    def _of_server(self, questions: Questions) -> list[Sequence[Row]]:
        def told(values: Mapping[str, Any]) -> Mapping[str, Any]:
            """PostgreSQL has no text with this letter in it, and refuses the question."""
            return {name: v.replace("\0", "\ufffd") if isinstance(v, str) else v for name, v in values.items()}

        with self._store.snapshot() as read:
            return [read.rows(sql, told(values)) for sql, values in questions]

    def _of_file(self, questions: Questions) -> list[Sequence[Row]]:
        opened = self._opened()
        if len(questions) == 1:
            return [opened.execute(sql, values).fetchall() for sql, values in questions]
        opened.execute("begin")
        try:
            return [opened.execute(sql, values).fetchall() for sql, values in questions]
        finally:
            opened.execute("rollback")

    def _opened(self) -> sqlite3.Connection:
        """The file that is in its place: the one of before stays whole for who has it open."""
        now = time.monotonic()
        if self._file is not None and now < self._look_at:
            return self._file
        self._look_at = now + LOOK
        place = file_of(self._store.url)
        if self._file is None or place != self._place:
            if self._file is not None:
                self._file.close()
                self._file = None
            path = Path(str(self._store.url.database))
            # Read only, but not immutable: another process writes.
            self._file = sqlite3.connect(
                f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
            )
            self._place = place
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._store.close()


def nothing_served() -> Problem:
    return Problem(503, "nothing is served", "the serving store is empty or does not answer: c360 sync fills it")


def joined(doc: str, personal: str) -> str:
    """One JSON object of the two."""
    if personal == "{}":
        return doc
    return f"{doc[:-1]},{personal[1:]}" if doc != "{}" else personal


def listed(rows: Sequence[Row], following: str | None) -> bytes:
    """{items, next}: `next` is what to ask for the page after, null on the last one."""
    return f'{{"items":{array(rows)},"next":{json.dumps(following)}}}'.encode()


def array(rows: Sequence[Row]) -> str:
    return f"[{','.join(joined(row[0], row[1]) for row in rows)}]"


def earlier(instant: str, minutes: int) -> str:
    """An instant of the store, so many minutes before."""
    return (datetime.fromisoformat(instant) - timedelta(minutes=minutes)).isoformat(timespec="microseconds")


def cursor_of(key: Sequence[str]) -> str:
    """A place in an order, as one opaque word."""
    return base64.urlsafe_b64encode(json.dumps(list(key)).encode()).decode().rstrip("=")


def key_of(cursor: str, parts: int) -> list[str]:
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(key, list) and len(key) == parts and all(isinstance(part, str) for part in key):
            "".join(key).encode()  # half of a letter can be written in JSON, and asked of no store
            return key
    except (ValueError, RecursionError):
        key = None
    raise Problem(404, "no such page", f"after: '{cursor}' is no `next` of a page before")


def instant(name: str, value: str | None) -> str | None:
    """An instant as the store has it, UTC; a day is its beginning."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
        found = instants.utc(found)
    except (ValueError, OverflowError):
        raise Problem(422, "no instant", f"{name}: '{value}' is no YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ") from None
    return found.isoformat(timespec="microseconds")


def holds(doc: str, at: str) -> bool:
    """Does the version still hold at that instant?"""
    ends = json.loads(doc)["valid_to"]
    return ends is None or str(instant("valid_to", ends)) > at


def told(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode()


def seconds(at: str) -> float:
    """Since 1970, of an instant in UTC."""
    return datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()


def believed(events: Sequence[Row], known_at: str) -> Row | None:
    """
    Of events (doc, personal) up to an instant the one that held, of those that were known; None where none was, or the
    customer was deleted. A position decides, then a delete, then the content, in whose order `nth` counts, as in the
    history.
    """
    best: tuple[tuple[Any, ...], Row, bool] | None = None
    for row in events:
        told = json.loads(row[0])
        if instant("known_at", told["known_at"]) > known_at:  # type: ignore[operator]
            continue
        position = told["position"]
        at = instant("event_time", told["event_time"])  # of one length, so that its text is in the order of time
        place = (at, position is not None, position or "", told["op"] == "delete", told["nth"])
        if best is None or place > best[0]:
            best = (place, row, told["op"] == "delete")
    return None if best is None or best[2] else best[1]
