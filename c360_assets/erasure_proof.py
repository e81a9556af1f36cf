"""Proof of an erasure: whatever is held is searched for the person, and what is found is told, never what it was.

Belongs here: what a person is recognized by, and looking for it in every table, object and file. Databases pack their
texts, so that a look at their bytes alone would prove little: their rows are read as well.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from c360_assets.feeds import Feed
from c360_assets.landing import Bucket
from c360_assets.persons import text_columns
from c360_assets.reading import Unreadable, format_of
from c360_assets.reading_parquet import column_texts
from c360_assets.redaction import ID, Naming, Unredactable, redacted
from c360_assets.spool import layout_of
from c360_assets.warehouse import Session

SHORTEST = 5
_HELD = ("core.customer_log", "clean.customer_rows")


@dataclass(frozen=True)
class Marks:
    """Texts that tell of the person and of nobody else. An id of digits alone is a mark in its fields only."""

    customer_id: str
    values: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        return self.values if self.customer_id.isdigit() else (self.customer_id, *self.values)

    def in_text(self, text: str) -> bool:
        return self.pattern.search(text.encode()) is not None

    @property
    def pattern(self) -> re.Pattern[bytes]:
        """Any of them, not as a part of a longer word."""
        words = b"|".join(re.escape(text.encode()) for text in self.texts)
        return re.compile(rb"(?<![A-Za-z0-9_-])(?:" + words + rb")(?![A-Za-z0-9_-])" if words else rb"(?!)")


def marks_of(session: Session, customer_id: str, personal: Collection[str]) -> Marks:
    """The id, and the person's values in the personal columns that no other customer's value contains."""
    found: list[str] = []
    there = [table for table in _HELD if table in session.tables()]
    for table in there:
        for column in sorted(personal):
            found += [
                str(value)
                for (value,) in session.rows(
                    f"select distinct {column} from {table} where {ID} = ? and {column} is not null", [customer_id]
                )
                # One word may be a product's name, or a column's.
                if len(str(value)) >= SHORTEST and re.search(r"[\d@\s]", str(value))
            ]
    shared = " or ".join(f"position(? in {column}) > 0" for column in sorted(personal))
    told = [
        value
        for value in dict.fromkeys(found)
        if not any(
            session.rows(
                f"select 1 from {table} where {ID} <> ? and ({shared}) limit 1",
                [customer_id, *[value] * len(personal)],
            )
            for table in there
        )
    ]
    return Marks(customer_id, tuple(told))


def in_tables(session: Session, marks: Marks) -> dict[str, int]:
    """{schema.table: rows with a mark}"""
    found = {}
    pattern = marks.pattern
    for table, columns in text_columns(session, None).items():
        exact = [column for column in columns if column == ID]
        near = [f"{column} = ?" for column in exact]
        near += [f"position(? in {column}) > 0" for column in columns for _ in marks.texts]
        bound = [marks.customer_id] * len(exact) + [text for _ in columns for text in marks.texts]
        if not near:
            continue
        header, rows = session.result(f"select {', '.join(columns)} from {table} where {' or '.join(near)}", bound)
        at = [number for number, name in enumerate(header) if name.lower() == ID]
        count = sum(
            any(row[place] == marks.customer_id for place in at)
            or any(pattern.search(str(value).encode()) for value in row if value is not None)
            for row in rows
        )
        if count:
            found[table] = count
    return found


def in_objects(bucket: Bucket, feeds: Mapping[str, Feed], marks: Marks) -> dict[str, int]:
    """{key: marks in it}, of all that lies on S3 under any feed; unzipped, Parquet by its cells."""
    found = {}
    for feed in feeds.values():
        for listed in bucket.listed(feed):
            data = bucket.client.get_object(Bucket=bucket.name, Key=listed.key)["Body"].read()
            try:
                count = sum(len(marks.pattern.findall(part)) for part in _plain(data))
            except (zlib.error, pa.ArrowException):
                found[f"{listed.key}, which is broken and could not be searched"] = 1
                continue
            count += _records(data, feed, listed.key, marks.customer_id)
            if count:
                found[listed.key] = count
    return found


def _records(data: bytes, feed: Feed, key: str, customer_id: str) -> int:
    """Records that name the person, told as an erasure tells them; an object that cannot be read has none."""
    naming, form = Naming.of(feed), format_of(key) or feed.formats[0]
    if naming is None:
        return 0
    try:
        made = redacted(data, form, layout_of(feed), naming, lambda text: "left" if text == customer_id else None)
    except (Unreadable, Unredactable):
        return 0
    return len(made.dropped) + len(made.changed)


def _plain(data: bytes) -> Iterator[bytes]:
    yield data
    if data[:2] == b"\x1f\x8b":
        # As far as it goes: one that is cut or damaged has been refused, and lies there all the same.
        data = zlib.decompressobj(wbits=31).decompress(data)
        yield data
    if data[:4] == b"PAR1":
        for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches():
            for column in batch.columns:
                yield "\n".join(text or "" for text in column_texts(column)).encode("utf-8", "surrogateescape")


def in_files(home: Path, marks: Marks, but: Collection[Path] = ()) -> dict[str, int]:
    """{path in the home: marks in its bytes}, logs of databases included."""
    found = {}
    for path in sorted(home.rglob("*")):
        if not path.is_file() or path in but:
            continue
        if path.name == "warehouse.duckdb" and path.parent != home:
            found[f"{path.relative_to(home)}, a copy of the warehouse that nobody removed: delete it"] = 1
        elif path.stat().st_size and (count := _count(path, marks)):
            found[str(path.relative_to(home))] = count
    return found


def _count(path: Path, marks: Marks) -> int:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return sum(1 for _ in marks.pattern.finditer(data))
