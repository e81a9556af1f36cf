"""Proof of an erasure: whatever is held is searched for the person, and what is found is told, never what it was.

Belongs here: what a person is recognized by, and looking for it in every table, object and file. Databases pack their
texts, so that a look at their bytes alone would prove little: their rows are read as well.
"""

from __future__ import annotations

import io
import os
import re
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from c360_assets.erasure import ErasureError
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket
from c360_assets.persons import Near, Sought, rows_near, text_columns
from c360_assets.reading import Unreadable, format_of
from c360_assets.reading_parquet import column_texts
from c360_assets.redaction import ID, Naming, Unredactable, edges, plain_of, redacted, spellings, unzipped
from c360_assets.spool import layout_of
from c360_assets.warehouse import Session

SHORTEST = 5
_HELD = ("core.customer_log", "clean.customer_rows")
# What is read of a file at once, what a mark may be long in it, and what is looked at before one.
_BLOCK, _OVERLAP, _CONTEXT = 16 << 20, 8192, 8
# So many bytes may stand for a letter: two codes of JSON, within JSON again.
_LONGEST_SPELLING = 16
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BASE64 = re.compile(rb'"([A-Za-z0-9+/]{4,}={0,2})"')


@dataclass(frozen=True)
class Marks:
    """Texts that tell of the person and of nobody else. An id of digits alone is one behind the name of its field, and
    as a cell of a table that a check's result shows."""

    customer_id: str
    values: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        return self.values if self.customer_id.isdigit() else (self.customer_id, *self.values)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The texts in every form in which `pattern` knows them, but for what is escaped twice."""
        return tuple(dict.fromkeys(form for text in self.texts for form in spellings(text)))

    def in_text(self, text: str) -> bool:
        return self.pattern.search(text.encode("utf-8", "surrogateescape")) is not None

    def in_value(self, value: object) -> bool:
        """Of a cell of SQLite."""
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        return isinstance(data, bytes) and self.pattern.search(data) is not None

    def without(self, data: bytes, pseudonym: str) -> bytes:
        """The bytes with the pseudonym in place of each mark."""
        return self.pattern.sub(lambda found: (found["field"] or b"") + pseudonym.encode(), data)

    @cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """Any of them, not as a part of a longer word. `field`: what stands before an id of digits alone."""
        words = [_word(text) for text in self.texts]
        fields = (
            _DIGITS_BEHIND % re.escape(self.customer_id.encode()) if self.customer_id.isdigit() else b"(?P<field>(?!))"
        )
        return re.compile(b"|".join([fields, *words]))

    @property
    def longest(self) -> int:
        """Bytes that a mark may have in a file."""
        return max([_OVERLAP, *(_LONGEST_SPELLING * len(text) for text in self.texts)])


# A letter that an escape ends with is none of the word before.
_ESCAPED = rb"(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4})"
_LATIN = rb"[\xc3-\xc9][\x80-\xbf]"  # letters beside those of ASCII
_DIGITS_BEHIND = rb"(?P<field>(?i:customer_?id)\\*[\"']?\s*[:=]\s*\\*[\"']?|\| )%s(?![A-Za-z0-9_-]|[.][1-9])"
_SHORT = {"\n": b"n", "\t": b"t", "\r": b"r", "\b": b"b", "\f": b"f"}


def _spelled(text: str) -> bytes:
    """A pattern of the text, and of the text as JSON has it, within JSON again too."""
    letters = []
    for letter in text:
        plain = re.escape(letter.encode("utf-8", "surrogateescape"))
        if letter == '"':
            letters.append(rb'(?:\\*""?|\\+u0022)')  # CSV has it twice
            continue
        if letter.isascii() and (letter.isalnum() or letter in " -_.@"):
            letters.append(plain)
            continue
        units = letter.encode("utf-16-be", "surrogatepass")
        codes = rb"\\+" + _SHORT[letter] + b"|" if letter in _SHORT else b""
        codes += b"".join(rb"\\+u(?i:%04x)" % int.from_bytes(units[n : n + 2], "big") for n in range(0, len(units), 2))
        letters.append(rb"(?:\\*" + plain + b"|" + codes + b")")
    return b"".join(letters)


def _word(text: str) -> bytes:
    """A pattern of the text where it is no part of a longer word."""
    before, behind = (edge.encode() for edge in edges(text))
    return b"".join([rb"(?:(?<!%s)%s|%s)" % (_LATIN, before, _ESCAPED), _spelled(text), behind, rb"(?!%s)" % _LATIN])


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


def in_tables(session: Session, marks: Marks, feeds: Mapping[str, Feed]) -> dict[str, int]:
    """{schema.table: rows with a mark}"""
    found = {}
    sought = Sought.of(marks.customer_id, feeds)
    for table, columns in text_columns(session, None).items():
        near = sought.near(table, columns)
        near += [Near.of(column, marks.spellings) for column in columns if marks.texts]
        if not near:
            continue
        rows = rows_near(session, table, near, lambda *cell: sought.is_in(*cell) or marks.in_text(cell[2]))
        if count := sum(1 for _ in rows):
            found[table] = count
    return found


def in_objects(bucket: Bucket, feeds: Mapping[str, Feed], marks: Marks) -> dict[str, int]:
    """{key: marks in it} of all that lies on S3 under any feed: unzipped, Parquet by its cells, base64 by its bytes."""
    found = {}
    for feed in feeds.values():
        for listed in bucket.listed(feed):
            data = bucket.client.get_object(Bucket=bucket.name, Key=listed.key)["Body"].read()
            try:
                count = sum(len(marks.pattern.findall(part)) for part in _plain(data, feed))
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


def _plain(data: bytes, feed: Feed) -> Iterator[bytes]:
    yield data
    if data[:2] == b"\x1f\x8b":
        # One that is cut has been refused, and lies there all the same.
        data = unzipped(data)
        yield data
    if data[:2] in _UTF16:
        # Refused too: no reader takes it.
        yield data.decode("utf-16", "replace").encode("utf-8", "replace")
    if data[:4] == b"PAR1":
        yield from _cells(pq.ParquetFile(io.BytesIO(data)))
    if feed.base64:
        for encoded in _BASE64.findall(data):
            yield from plain_of(encoded.decode())


def in_files(home: Path, marks: Marks, but: Collection[Path] = ()) -> dict[str, int]:
    """{path in the home: marks in its bytes}, logs of databases included; of SQLite and Parquet the rows too."""
    found = {}
    for path in files_of(home):
        if path in but:
            continue
        told = str(path.relative_to(home))
        if path.name == "warehouse.duckdb" and path.parent != home:
            found[f"{told}, a copy of the warehouse that nobody removed: delete it"] = 1
            continue
        with suppress(FileNotFoundError):  # what is at work in the home removes its own
            try:
                count = (
                    _count(path, marks) or (path.suffix == ".db" and in_database(path, marks)) or in_rows(path, marks)
                )
            except pa.ArrowException:
                told, count = f"{told}, which is broken and could not be searched", 1
            if count:
                found[told] = count
    return found


def in_rows(path: Path, marks: Marks) -> int:
    """Marks in the cells of a Parquet file, 0 of any other: its bytes are packed, and a text may be in pieces there."""
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return 0
    return sum(len(marks.pattern.findall(part)) for part in _cells(pq.ParquetFile(path)))


def _cells(file: pq.ParquetFile) -> Iterator[bytes]:
    for batch in file.iter_batches():
        for column in batch.columns:
            yield "\n".join(text or "" for text in column_texts(column)).encode("utf-8", "surrogateescape")


def files_of(folder: Path) -> Iterator[Path]:
    """Files below the folder, in their order; what goes away meanwhile is none."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(root, name)).is_file() and not path.is_symlink())


def _count(path: Path, marks: Marks) -> int:
    """Block by block: what is mapped ends a process where somebody else cuts the file."""
    count, left, start = 0, b"", 0
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            data = left + block
            # A mark that begins near the end may go on in the next block, and is counted there.
            end = len(data) - marks.longest if block else len(data)
            count += sum(1 for found in marks.pattern.finditer(data) if start <= found.start() < end)
            if not block:
                return count
            end = max(0, end)
            left = data[max(0, end - _CONTEXT) :]
            start = min(end, _CONTEXT)


def in_database(path: Path, marks: Marks) -> int:
    """Rows of an SQLite file with a mark: its bytes have texts side by side, and nothing parts one from the next.

    Raises:
        ErasureError: if it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            connection.create_function("has_mark", 1, marks.in_value)
            return sum(
                connection.execute(
                    f'select count(*) from "{table}" where ' + " or ".join(f'has_mark("{name}")' for name in columns)
                ).fetchone()[0]
                for table, columns in tables_of(connection)
            )
    except sqlite3.Error as error:
        if not path.exists():
            return 0  # a run was pruned meanwhile
        raise ErasureError(
            f"{path} cannot be searched: {error}; stop what is at work in the home, then say it again"
        ) from error


def tables_of(connection: sqlite3.Connection) -> list[tuple[str, list[str]]]:
    """(table, its columns)"""
    tables = connection.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
    return [
        (table, [name for _, name, *_ in connection.execute(f'pragma table_info("{table}")')])
        for (table,) in tables.fetchall()
    ]
