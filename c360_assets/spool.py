"""Spool: objects read and kept as Parquet files beside the warehouse, until one transaction takes them in.

Belongs here: fetching, reading, the shape of a staged row. Reading goes on while others use the warehouse. An object is
spooled as a whole or not at all.
"""

from __future__ import annotations

import fcntl
import io
import os
import secrets
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from c360_assets import instants
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, Listed
from c360_assets.reading import Chunk, Layout, Reading, Refused, Unreadable, format_of, read_object
from c360_assets.warehouse import INTEGER, TEXT, TIMESTAMP

LINEAGE = {
    "_extra": TEXT,
    "_key": TEXT,
    "_etag": TEXT,
    "_row": INTEGER,
    "_loaded_at": TIMESTAMP,
    "_batch": TEXT,
    "_superseded_at": TIMESTAMP,
}
_ARROW = {TEXT: pa.string(), INTEGER: pa.int64(), TIMESTAMP: pa.timestamp("us")}

# Small objects are fetched side by side while others are parsed, as many as boto3 keeps connections; a large one is
# streamed.
FETCH_AT_ONCE = 10
SMALL = 8 * 1024 * 1024
HELD_ROWS = 200_000

# Of an object that was written anew without a person: since when S3 had the one before.
MODIFIED = "c360-modified"

# Outcomes that are no status of an object loaded: not there any more; another version by now (left to the next plan).
GONE, MOVED = "gone", "moved"


@dataclass(frozen=True)
class Outcome:
    """What became of one object: its ledger row and its refused records."""

    listed: Listed
    status: str
    event_time: datetime | None = None
    rows: int = 0
    refused: tuple[Refused, ...] = ()


def layout_of(feed: Feed) -> Layout:
    return Layout(
        columns=feed.columns,
        required=feed.required,
        payload=feed.payload,
        tombstones=feed.tombstones,
        delimiter=feed.delimiter,
    )


def read_all(feed: Feed, plan: Sequence[Listed], bucket: Bucket, spooled: Spool) -> Iterator[Outcome]:
    """Reads the objects in the order of the plan, small ones fetched ahead of the parser."""
    with ThreadPoolExecutor(FETCH_AT_ONCE) as pool:
        ahead: deque[tuple[Listed, Future[_Fetched]]] = deque()
        waiting = iter(plan)
        while True:
            while len(ahead) < FETCH_AT_ONCE and (listed := next(waiting, None)) is not None:
                ahead.append((listed, pool.submit(_fetch, bucket, listed)))
            if not ahead:
                return
            listed, fetched = ahead.popleft()
            yield _read_object(feed, listed, fetched.result(), spooled)


@dataclass(frozen=True)
class _Fetched:
    """The answer to a GET: a body and the file's own time, or the status that stands in its place."""

    status: str
    body: Any = None
    file_time: datetime | None = None
    modified: datetime | None = None


def _fetch(bucket: Bucket, listed: Listed) -> _Fetched:
    try:
        answer = bucket.client.get_object(Bucket=bucket.name, Key=listed.key, IfMatch=f'"{listed.etag}"')
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("404", "NoSuchKey", "NotFound"):
            return _Fetched(GONE)
        if code in ("412", "PreconditionFailed"):
            return _Fetched(MOVED)
        raise
    if answer["ETag"].strip('"') != listed.etag:
        return _Fetched(MOVED)
    body = io.BytesIO(answer["Body"].read()) if listed.size <= SMALL else answer["Body"]
    stated = answer.get("Metadata", {})
    modified = _file_time(stated.get(MODIFIED), listed.last_modified)
    return _Fetched("loaded", body, _file_time(stated.get("mtime"), listed.last_modified), modified)


def stated_file_time(bucket: Bucket, listed: Listed) -> datetime | None:
    """The file's own time, of an object that nobody fetches; None where it is another by now, or gone."""
    try:
        told = bucket.client.head_object(Bucket=bucket.name, Key=listed.key, IfMatch=f'"{listed.etag}"')
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "412", "NoSuchKey", "NotFound", "PreconditionFailed"):
            return None
        raise
    return _file_time(told.get("Metadata", {}).get("mtime"), listed.last_modified)


def _file_time(stated: str | None, last_modified: datetime) -> datetime:
    """The mtime that was kept with the object, else when S3 got it; UTC without zone."""
    if stated:
        try:
            return instants.read(stated)
        except ValueError:
            return last_modified
    return last_modified


def _read_object(feed: Feed, listed: Listed, fetched: _Fetched, spooled: Spool) -> Outcome:
    if fetched.status != "loaded":
        return Outcome(listed, fetched.status)
    listed = replace(listed, last_modified=fetched.modified or listed.last_modified)
    if listed.size == 0:
        return Outcome(
            listed,
            "empty",
            feed.event_time.of_object(listed.key, frozenset(), fetched.file_time or listed.last_modified),
        )
    format = format_of(listed.key) or (feed.formats[0] if len(feed.formats) == 1 else None)
    if format not in feed.formats:
        return _unreadable(feed, listed, fetched, "unknown_format")
    try:
        reading = read_object(fetched.body, format, layout_of(feed))
        rows, refused = spooled.take(listed, reading)
    except Unreadable as error:
        return _unreadable(feed, listed, fetched, error.reason)
    event_time = feed.event_time.of_object(listed.key, reading.present, fetched.file_time or listed.last_modified)
    return Outcome(listed, "loaded", event_time, rows, tuple(refused))


def _unreadable(feed: Feed, listed: Listed, fetched: _Fetched, reason: str) -> Outcome:
    """Its instant is told all the same, where the name does: it may be a part of a whole, which is none without it."""
    event_time = feed.event_time.of_object(listed.key, frozenset(), fetched.file_time or listed.last_modified)
    return Outcome(listed, "unreadable", event_time, refused=(Refused(row=0, raw="", reasons=(reason,)),))


@contextmanager
def spooled_object(
    feed: Feed, listed: Listed, bucket: Bucket, spool: Path, batch: str, now: datetime, only: set[int] | None
) -> Iterator[tuple[Outcome, list[Path], list[str]]]:
    """One object read again: its outcome, Parquet files of its rows (`only` those, if given) and their columns."""
    with spool_folder(spool) as folder:
        spooled = Spool(folder, feed, batch, now, only)
        outcome = _read_object(feed, listed, _fetch(bucket, listed), spooled)
        yield outcome, spooled.close(), spooled.names


class Spool:
    """Rows on their way to the warehouse, as Parquet files: small objects share one, a large object has its own."""

    def __init__(self, folder: Path, feed: Feed, batch: str, now: datetime, only: set[int] | None = None) -> None:
        self.names = [*feed.columns, *(n for n in LINEAGE if n != "_superseded_at")]
        self.unknown: set[str] = set()
        self.missing: set[str] = set()
        self._folder = folder
        self._feed = feed
        self._batch = batch
        self._now = now
        self._only = only
        self._schema = pa.schema(
            [(c, pa.string()) for c in feed.columns]
            + [(n, _ARROW[kind]) for n, kind in LINEAGE.items() if n != "_superseded_at"]
        )
        self._shared: pq.ParquetWriter | None = None
        self._files: list[Path] = []

    def take(self, listed: Listed, reading: Reading) -> tuple[int, list[Refused]]:
        """All records of one object, or none of them if it turns out to be unreadable half way: rows and refused."""
        tables: list[pa.Table] = []
        own: pq.ParquetWriter | None = None
        path = self._folder / f"{len(self._files)}.parquet"
        count, held = 0, 0
        refused: list[Refused] = []
        try:
            for chunk in reading.chunks:
                refused += chunk.refused
                table = self._table(listed, chunk)
                if not table.num_rows:
                    continue
                count += table.num_rows
                held += table.num_rows
                tables.append(table)
                if held >= HELD_ROWS:
                    own = own or pq.ParquetWriter(path, self._schema, compression="snappy")
                    for table in tables:
                        own.write_table(table)
                    tables, held = [], 0
        except Unreadable:
            if own:
                own.close()
                path.unlink()
            raise
        if own:
            for table in tables:
                own.write_table(table)
            own.close()
            self._files.append(path)
        elif tables:
            if self._shared is None:
                self._shared = pq.ParquetWriter(self._folder / "shared.parquet", self._schema, compression="snappy")
            for table in tables:
                self._shared.write_table(table)
        self.unknown |= reading.unknown
        self.missing |= set(self._feed.columns) - reading.present - self._feed.required
        return count, refused

    def close(self) -> list[Path]:
        if self._shared is not None:
            self._shared.close()
            self._files.append(self._folder / "shared.parquet")
            self._shared = None
        return self._files

    def _table(self, listed: Listed, chunk: Chunk) -> pa.Table:
        count = len(chunk.rows)
        lineage = [
            pa.repeat(pa.scalar(listed.key, pa.string()), count),
            pa.repeat(pa.scalar(listed.etag, pa.string()), count),
            pa.array(chunk.rows, pa.int64()),
            pa.repeat(pa.scalar(self._now, pa.timestamp("us")), count),
            pa.repeat(pa.scalar(self._batch, pa.string()), count),
        ]
        table = pa.Table.from_arrays([*(pa.array(v, pa.string()) for v in chunk.values), *lineage], schema=self._schema)
        return table if self._only is None else table.filter(pa.array([row in self._only for row in chunk.rows]))


@contextmanager
def spool_folder(spool: Path) -> Iterator[Path]:
    """A folder for what is on its way, until the body ends. A lock says that it is used, in any container that has the
    home: it ends with its process, however that ends."""
    spool.mkdir(parents=True, exist_ok=True)
    while True:
        with _locked(spool / f"{secrets.token_hex(8)}.lock") as lock:
            if lock is None:
                continue  # somebody clears away at this very moment
            folder = lock.with_suffix("")
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder)
                lock.unlink()
            return


def clear_spool(spool: Path) -> None:
    """Removes what processes left there that are gone."""
    for path in sorted(spool.glob("*")):
        # The lock is made before its folder, and goes after it.
        with _locked(path if path.suffix == ".lock" else path.with_suffix(".lock")) as lock:
            if lock is not None:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[Path | None]:
    """The path of the lock while it is held; None where another holds it, or has taken it away at this moment."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        try:
            is_there = os.fstat(lock.fileno()).st_ino == path.stat().st_ino
        except FileNotFoundError:
            is_there = False
        yield path if is_there else None
