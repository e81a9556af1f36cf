"""Redaction: the bytes of an object without some persons, everything else in it as it was.

Belongs here: which fields of a feed's record name a customer, and what becomes of the record. A record of the
customer's own feeds goes; in any other a pseudonym takes the place of the id. Knows neither S3 nor the warehouse.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c360_assets.feeds import Feed
from c360_assets.reading import Layout
from c360_assets.reading_csv import csv_fields, csv_record, csv_spans
from c360_assets.reading_json import as_text, compact, decoded, json_spans
from c360_assets.reading_parquet import column_texts
from c360_assets.reading_record import fold, text_blocks

PERSON, ID = "customer", "customer_id"
# {id: the pseudonym that stands for it}, as far as the person is to be forgotten
PseudonymOf = Callable[[str], str | None]
_FIELD, _JSON_ID = re.compile(r"[^,;|{}\[\]\n\t\"]+"), re.compile(rf'"{ID}"\s*:\s*"?([^",}}\s]+)')
_WORD, _PART = re.compile(r"[A-Za-z0-9_-]+"), re.compile(r"[^\s,;|\"':{}\[\]]+")
# What stands between quotes where a field of CSV or a value of JSON begins; one may begin in what looks like another.
_QUOTED = re.compile(r"""(?=(?:^|[,;|\t\n:\[{])\s*"((?:""|\\.|[^"\\])*)")""", re.DOTALL)
_BOM, _GZIP = b"\xef\xbb\xbf", b"\x1f\x8b"
_CODE, _ESCAPE = re.compile(r"\\u([0-9a-f]{4})"), re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_BINARY, _LARGEST = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]"), 64 << 20
_ROWS: tuple[tuple[str, ...], ...] = (("after",), ("payload", "after"), ("before",), ("payload", "before"))


class Unredactable(RuntimeError):
    """The object cannot be written without the person; the text says which, why and the remedy."""


@dataclass(frozen=True)
class Naming:
    """Where the records of a feed name a customer. `drops`: they are the customer's own, and go."""

    feed: Feed
    fields: tuple[str, ...]
    drops: bool

    @classmethod
    def of(cls, feed: Feed) -> Naming | None:
        """None where no record of the feed names any."""
        if feed.base64:
            return cls(feed, feed.base64, True)
        fields = feed.map.get(ID, (ID,))
        named = feed.payload or any(name in feed.columns for name in fields)
        return cls(feed, fields, feed.entity == PERSON) if feed.entity and named else None

    @property
    def columns(self) -> list[str]:
        """Of the staging table, in which an id may stand."""
        return ["payload"] if self.feed.payload else [name for name in self.fields if name in self.feed.columns]

    def pseudonym(self, value: str | None, people: PseudonymOf) -> str | None:
        """What stands for the received text, if it is an id of one of the people."""
        if value is None:
            return None
        text = value.strip()
        pattern = self.feed.strip.get(ID)
        return people(re.sub(pattern, "", text) if pattern else text) or (people(text) if pattern else None)

    def document(self, value: Any, people: PseudonymOf) -> tuple[Any, bool]:
        """A decoded record with pseudonyms, and whether it is of any of the people.

        Of several fields the first that has something counts, as in clean. An event is of whom its row after names, or
        the one before where there is none after.
        """
        if self.feed.base64:
            return value, any(_hides(text, people) for name in self.fields for text in _given(value, [name]))
        is_event = self.feed.payload and self.feed.kind == "events"
        told: list[bool] = []
        for start in _ROWS if is_event else ((),):
            for name in self.fields:
                path = [*start, *name.split(".")]
                given = [text for text in _given(value, path) if text.strip()]
                if given:
                    value, named = _renamed(value, path, lambda text: self.pseudonym(text, people))
                    told.append(named)
                    break
        return value, told[0] if is_event and told else any(told)

    def names(self, text: str, people: PseudonymOf) -> bool:
        """Is a text of one of the `columns` of any of the people?"""
        return (self.payload(text, people) if self.feed.payload else self.pseudonym(text, people)) is not None

    def payload(self, text: str, people: PseudonymOf) -> str | None:
        """A record that is kept whole, with pseudonyms; None where it names nobody."""
        value, found = self.document(decoded(text), people)
        return compact(value) if found else None


@dataclass
class Redacted:
    """`dropped`, `changed`: numbers of records as they were, from 1; `data`: the bytes of the object that is left."""

    data: bytes
    count: int
    dropped: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)


def redacted(data: bytes, form: str, layout: Layout, naming: Naming, people: PseudonymOf) -> Redacted:
    """The object's bytes without the people. `form`: csv, json or parquet; zipped if it was.

    Raises:
        Unreadable: if the object cannot be read at all.
        Unredactable: if what would be left is not read as what it was, less the people.
    """
    if form == "parquet":
        plain = gzip.decompress(data) if data[:2] == _GZIP else data
        made = _parquet(plain, naming, people)
    else:
        text = "".join(text_blocks(io.BytesIO(data), 1 << 20))
        made = (_csv if form == "csv" else _json)(text, layout, naming, people)
        if (gzip.decompress(data)[:3] if data[:2] == _GZIP else data[:3]) == _BOM:
            made.data = _BOM + made.data
    if data[:2] == _GZIP:
        made.data = gzip.compress(made.data, mtime=0)
    return made


def tokens_of(text: str, people: PseudonymOf, *, numbers: bool = False) -> bool:
    """Does a text of which no field can be told name any of the people? A word of digits alone may be any number, and
    names somebody only if it is all there is, or behind the name of the field, as JSON has it; with `numbers`, wherever
    it stands."""
    quoted = _QUOTED.findall(text) if '"' in text else []
    whole = {value.strip() for field in quoted for value in (field, field.replace('""', '"'), _unescaped(field))}
    for told in (text, _unescaped(text)) if "\\" in text else (text,):
        words = {*_WORD.findall(told), *_PART.findall(told), *(part.strip() for part in _FIELD.findall(told)), *whole}
        sure = {told.strip(), *(as_json.group(1) for as_json in _JSON_ID.finditer(told))}
        if any(people(word) for word in words | sure if numbers or word in sure or not word.isdigit()):
            return True
    return False


def spellings(text: str) -> tuple[str, ...]:
    """The text as it stands, and as JSON and CSV may have it."""
    plain, ascii_only = (json.dumps(text, ensure_ascii=only)[1:-1] for only in (False, True))
    upper = _CODE.sub(lambda code: "\\u" + code.group(1).upper(), ascii_only)
    return tuple(dict.fromkeys([text, plain, ascii_only, upper, text.replace('"', '""')]))


def edges(text: str) -> tuple[str, str]:
    """Patterns of what stands before the text, and behind it, where it is no part of a longer word.

    `ann.lee@x.org` is not `lee@x.org`, nor `urn:7:b` `urn:7`: a sign that the text has in itself parts no other word
    from it, but for the ending of a file's name or of a number.
    """
    inner = "".join(sign for sign in ".:/" if sign in text or (sign == "." and "@" in text))
    before = "." * ("." in inner) + "+" * ("@" in text)
    behind = rf"|[{inner}](?!(?:csv|json|parquet|gz|0)(?![A-Za-z0-9]))[A-Za-z0-9]" if inner else ""
    return (
        "(?<![A-Za-z0-9_-])" + (f"(?<![A-Za-z0-9][{before}])" if before else ""),
        f"(?![A-Za-z0-9_-]{behind})",
    )


def _unescaped(text: str) -> str:
    """What JSON's escapes in it stand for, whether or not the rest can be read."""
    told = _ESCAPE.sub(lambda code: chr(int(code[1], 16)) if code[1] else _SHORT.get(code[2], code[2]), text)
    return told.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _csv(text: str, layout: Layout, naming: Naming, people: PseudonymOf) -> Redacted:
    names, spans, refused = csv_spans(text, layout)
    places = [place for place, name in enumerate(names) if name in {fold(field) for field in naming.fields}]

    def record(number: int, raw: str) -> str | None:
        if number in refused:
            parts = raw.split(layout.delimiter)
            ids = [parts[place].strip().strip('"') for place in places if place < len(parts)]
            return None if tokens_of(raw, people) or any(naming.pseudonym(i, people) for i in ids) else raw
        values, end = csv_fields(raw, len(names), layout.delimiter)
        found = {place: name for place in places if (name := naming.pseudonym(values[place], people))}
        if not found:
            return raw
        if naming.drops:
            return None
        return csv_record([found.get(place, value) for place, value in enumerate(values)], layout.delimiter) + end

    return _spliced(text, spans, record, lambda left: len(csv_spans(left, layout)[1]), between=False)


def _json(text: str, layout: Layout, naming: Naming, people: PseudonymOf) -> Redacted:
    spans, refused = json_spans(text, layout)

    def record(number: int, raw: str) -> str | None:
        if number in refused:
            return None if tokens_of(raw, people) else raw
        value, found = naming.document(decoded(raw), people)
        if not found:
            return raw
        return None if naming.drops else compact(value)

    return _spliced(text, spans, record, lambda left: len(json_spans(left, layout)[0]), between=True)


def _spliced(
    text: str,
    spans: Sequence[tuple[int, int]],
    record: Callable[[int, str], str | None],
    counted: Callable[[str], int],
    *,
    between: bool,
) -> Redacted:
    """The text with each record as `record` has it; None takes it away, with what stands `between` it and the next."""
    made = Redacted(b"", len(spans))
    parts: list[str] = []
    at = 0
    for number, (begin, end) in enumerate(spans, 1):
        raw = text[begin:end]
        told = record(number, raw)
        if told == raw:
            continue
        last = number == len(spans)
        parts.append(text[at:begin])
        if told is not None:
            parts.append(told)
            made.changed.append(number)
        else:
            made.dropped.append(number)
            if between and not last:
                end = spans[number][0]
            elif between and any(part.strip() for part in parts):
                # The last one: what stands before it parts it from a record that is left.
                kept = "".join(parts).rstrip()
                parts = [kept.removesuffix(",")]
        at = end
    left = "".join([*parts, text[at:]])
    if counted(left) != len(spans) - len(made.dropped):
        raise Unredactable("without the person it would be read as other records; land it again without them")
    made.data = left.encode("utf-8", "surrogateescape")
    return made


def _parquet(data: bytes, naming: Naming, people: PseudonymOf) -> Redacted:
    file = pq.ParquetFile(io.BytesIO(data))
    table = file.read()
    named = [i for i, name in enumerate(table.schema.names) if fold(name) in {fold(field) for field in naming.fields}]
    made = Redacted(data, table.num_rows)
    found: set[int] = set()
    for place in named:
        column = [text for chunk in table.column(place).chunks for text in column_texts(chunk)]
        names = [naming.pseudonym(text, people) for text in column]
        rows = {number for number, name in enumerate(names, 1) if name}
        if rows and not naming.drops:
            values = [name or text for name, text in zip(names, column, strict=True)]
            label = table.schema.names[place]
            table = table.set_column(place, label, pa.array(values, pa.string()))
        found |= rows
    if not found:
        return made
    if naming.drops:
        table = table.filter(pa.array([number not in found for number in range(1, table.num_rows + 1)]))
    kind = file.metadata.row_group(0).column(0).compression if file.metadata.num_row_groups else "SNAPPY"
    out = io.BytesIO()
    pq.write_table(table, out, compression="NONE" if kind == "UNCOMPRESSED" else kind)
    made.data = out.getvalue()
    (made.dropped if naming.drops else made.changed).extend(sorted(found))
    return made


def _renamed(value: Any, path: Sequence[str], rename: Callable[[str | None], str | None]) -> tuple[Any, bool]:
    """What stands at the path of names, through arrays, as a pseudonym if it is an id; and whether it was."""
    if isinstance(value, list):
        told = [_renamed(inner, path, rename) for inner in value]
        return [inner for inner, _ in told], any(found for _, found in told)
    if not isinstance(value, tuple):
        return value, False
    pairs: list[tuple[str, Any]] = []
    found = False
    for name, inner in value:
        if fold(name) != fold(path[0]):
            pairs.append((name, inner))
            continue
        if len(path) > 1:
            inner, named = _renamed(inner, path[1:], rename)
        else:
            pseudonym = rename(as_text(inner))
            named, inner = pseudonym is not None, pseudonym or inner
        found = found or named
        pairs.append((name, inner))
    return tuple(pairs), found


def _given(value: Any, path: Sequence[str]) -> Iterator[str]:
    """The texts at the path of names, through arrays."""
    if isinstance(value, list):
        for inner in value:
            yield from _given(inner, path)
    elif isinstance(value, tuple):
        for name, inner in value:
            if fold(name) == fold(path[0]):
                if len(path) > 1:
                    yield from _given(inner, path[1:])
                elif (text := as_text(inner)) is not None:
                    yield text


def _hides(encoded: str, people: PseudonymOf) -> bool:
    """Do bytes in base64, which may be anything, name any of the people?"""
    parts = plain_of(encoded)
    if not parts:
        return tokens_of(encoded, people)
    return any(
        tokens_of(part.decode("utf-8", "surrogateescape"), people) or any(map(people, _measured(part)))
        for part in parts
    )


def plain_of(encoded: str) -> list[bytes]:
    """The bytes that base64 stands for, and what is zipped in them; none where it is no base64."""
    try:
        data = b64decode(encoded, validate=True)
    except ValueError:
        return []
    if data[:2] != _GZIP:
        return [data]
    try:
        # No further than an event may be long.
        return [data, unzipped(data, _LARGEST)]
    except zlib.error:
        return [data]


def unzipped(data: bytes, most: int = sys.maxsize) -> bytes:
    """The first `most` bytes of what is zipped in them, one member after the other; of what is cut as far as it goes.

    Raises:
        zlib.error: if it is damaged.
    """
    found = b""
    while data[:2] == _GZIP and len(found) < most:
        member = zlib.decompressobj(wbits=31)
        found += member.decompress(data, most - len(found))
        data = member.unused_data.lstrip(b"\0")
    return found


def _measured(data: bytes) -> Iterator[str]:
    """Words that bytes which are no text have behind their length, as Avro (twice it) and Protobuf write them: there
    the next byte may look like one more letter."""
    if not _BINARY.search(data):
        return
    for at, length in enumerate(data):
        for size in {length, length // 2}:
            word = data[at + 1 : at + 1 + size]
            if len(word) == size >= 2 and not word.isdigit():
                yield word.decode("utf-8", "replace")


def numbers_left(count: int, dropped: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(number before, number after) of the records that are left, where it is another."""
    gone = set(dropped)
    after = 0
    for before in range(1, count + 1):
        if before not in gone:
            after += 1
            if after != before:
                yield before, after
