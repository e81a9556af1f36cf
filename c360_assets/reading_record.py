"""What every reader is given and what it gives: the layout, the chunks of accepted and refused records, the text of an
object. Knows no format; the formats are in the siblings, the door is `reading`.

Text is decoded with `surrogateescape`: a byte that is no UTF-8 becomes a lone surrogate, which no valid UTF-8 yields,
so that it refuses the record it stands in and no other.
"""

import codecs
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

CHUNK_ROWS = 50_000
CHUNK_CHARS = 64 << 20  # where a chunk of very long records ends, for memory's sake
BLOCK_BYTES = 1 << 16  # what a block becomes fits the processor's cache: larger ones are read at half the speed
_SURROGATE = re.compile("[\ud800-\udfff]")
RAW_CHARS = 16 << 20  # the longest record, and the longest refused text that is shown


@dataclass(frozen=True)
class Layout:
    """What a feed declares about its records; `columns` are lower case and in table order."""

    columns: tuple[str, ...]
    required: frozenset[str]
    payload: bool = False
    """The record is kept whole: `columns` is `("payload",)` and its exact text is the value."""
    tombstones: bool = False
    """A payload may be null."""
    delimiter: str = ","


@dataclass(frozen=True)
class Refused:
    """A record, or a stretch of text in which no record could be told, with all the reasons against it."""

    row: int
    raw: str
    reasons: tuple[str, ...]


@dataclass
class Chunk:
    """Up to CHUNK_ROWS records, by column: `values` holds one list per layout column, then one for `_extra`."""

    rows: list[int]
    values: list[list[str | None]]
    refused: list[Refused]


class Unreadable(Exception):
    """The object as a whole cannot be read. `reason` is a code; the text says what, where and the remedy."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class Reading:
    """An object being read. `present` and `unknown` are final once `chunks` is exhausted."""

    present: frozenset[str]
    unknown: frozenset[str]
    chunks: Iterator[Chunk]


class Gather:
    """Numbers the records of an object and collects them into chunks."""

    def __init__(self, width: int, limit: int) -> None:
        self._width, self._limit = width, limit
        self._number = 0
        self._start()

    def _start(self) -> None:
        self._rows: list[int] = []
        self._values: list[list[str | None]] = [[] for _ in range(self._width)]
        self._refused: list[Refused] = []
        self._chars = 0

    @property
    def room(self) -> int:
        """How many more records the chunk takes."""
        return 0 if self._chars >= CHUNK_CHARS else self._limit - len(self._rows) - len(self._refused)

    def accept(self, columns: Sequence[Sequence[str | None]], count: int, chars: int) -> None:
        """Takes `count` records, not more than there is room for, given by column; `chars` is about their size."""
        self._rows.extend(range(self._number + 1, self._number + count + 1))
        for values, more in zip(self._values, columns, strict=True):
            values.extend(more)
        self._number += count
        self._chars += chars

    def accept_one(self, record: Sequence[str | None], chars: int) -> None:
        self._number += 1
        self._rows.append(self._number)
        for values, value in zip(self._values, record, strict=True):
            values.append(value)
        self._chars += chars

    def refuse(self, raw: str, reasons: Sequence[str]) -> None:
        self._number += 1
        self._refused.append(Refused(self._number, raw, tuple(reasons)))
        self._chars += len(raw)

    def take(self) -> Chunk:
        chunk = Chunk(self._rows, self._values, self._refused)
        self._start()
        return chunk

    def __bool__(self) -> bool:
        return bool(self._rows or self._refused)


class Raw:
    """The text of a refusal that may go on for long: its first RAW_CHARS characters are kept."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._room = RAW_CHARS

    def add(self, text: str) -> None:
        if self._room > 0 and text:
            self._parts.append(text[: self._room])
            self._room -= len(text)

    def __str__(self) -> str:
        return "".join(self._parts)


def fold(name: str) -> str:
    """The form in which names are compared."""
    return name.strip().casefold()


def is_utf8(text: str) -> bool:
    """Whether text can be written as UTF-8, that is, holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """Text as received, with `\\xNN` for each byte that is no UTF-8 and `\\udNNN` for any other surrogate."""
    return text if is_utf8(text) else _SURROGATE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def byte_blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The bytes of an object, unzipped if its first two bytes say so.

    Raises Unreadable("broken_gzip") where compressed data ends early or is damaged.
    """
    head = stream.read(size)
    while 0 < len(head) < 2 and (more := stream.read(size)):
        head += more
    blocks = _read_on(head, stream, size)
    return _unzipped(blocks, size) if head[:2] == b"\x1f\x8b" else blocks


def _read_on(block: bytes, stream: BinaryIO, size: int) -> Iterator[bytes]:
    while block:
        yield block
        block = stream.read(size)


def _unzipped(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    unzip, member, received = zlib.decompressobj(wbits=31), 1, 0
    for block in blocks:
        received += len(block)
        while block:
            if unzip.eof:
                block = block.lstrip(b"\0")  # the format allows zeros behind a member
                if not block:
                    break
                unzip, member = zlib.decompressobj(wbits=31), member + 1
            try:
                unpacked = unzip.decompress(block, size)
            except zlib.error as error:
                raise _broken_gzip(f"is damaged ({error})", member, received) from error
            if unpacked:
                yield unpacked
            block = unzip.unused_data if unzip.eof else unzip.unconsumed_tail
    if not unzip.eof:
        if rest := unzip.flush():
            yield rest
        if not unzip.eof:
            raise _broken_gzip("ends early", member, received)


def _broken_gzip(what: str, member: int, received: int) -> Unreadable:
    where = f"in gzip member {member}, within the first {received} compressed bytes"
    return Unreadable("broken_gzip", f"the compressed data {what} {where}; write the object again from its source")


def text_blocks(stream: BinaryIO, size: int) -> Iterator[str]:
    """The text of an object without its byte order mark; see the module for bytes that are no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    for block in byte_blocks(stream, size):
        if text := decoder.decode(block):
            yield text
    if text := decoder.decode(b"", True):
        yield text
