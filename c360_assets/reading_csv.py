"""Reads CSV. Sound text goes column-wise through C code (`_Csv._take_sound`), the rest record by record (`_Csv._walk`).

The two ways give the same account of every text, wherever it is cut into blocks: the fast way takes only what the walk
would accept as well, and leaves everything else to it.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import BinaryIO

from c360_assets.reading_record import (
    CHUNK_ROWS,
    RAW_CHARS,
    Chunk,
    Gather,
    Layout,
    Raw,
    Reading,
    Unreadable,
    fold,
    is_utf8,
    shown,
    text_blocks,
)

AHEAD_CHARS = 1 << 20  # how far behind its first line a record may go: bounds what one stray quote costs
AHEAD_LINES = 10_000
_CUT = "\udfff"  # marks a line that was cut at RAW_CHARS; decoding never yields it

_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def read_csv(stream: BinaryIO, layout: Layout, block_bytes: int, chunk_rows: int) -> Reading:
    """Reads the header at once, the records lazily. Raises Unreadable("broken_header") where no header can be told."""
    reader = _Csv(text_blocks(stream, block_bytes), layout, chunk_rows)
    header = reader.read_header()
    if header is None:
        return Reading(frozenset(), frozenset(), iter(()))
    declared = {fold(column): column for column in layout.columns}
    present = frozenset(declared[name] for name in map(fold, header) if name in declared)
    unknown = frozenset(_extra_name(name) for name in header if fold(name) not in declared)
    return Reading(present, unknown, reader.chunks())


def csv_spans(text: str, layout: Layout) -> tuple[list[str], list[tuple[int, int]], set[int]]:
    """Of a whole text: the folded names of its header, where each record begins and ends, and which are refused."""
    if any(len(line) > RAW_CHARS for line in text.split("\n")):
        raise Unreadable("line_too_long", f"a line is longer than {RAW_CHARS} characters, and kept in part only")
    reader = _Csv(iter([text]), layout, CHUNK_ROWS)
    if reader.read_header() is None:
        return [], [], set()
    spans = reader.spans = []
    refused = {record.row for chunk in reader.chunks() for record in chunk.refused}
    return reader.names, spans, refused


def csv_fields(record: str, width: int, delimiter: str) -> tuple[list[str], str]:
    """The fields of a sound record, and the line end that it has."""
    fields, _ = _parse(record, 0, delimiter, width)
    assert isinstance(fields, list)
    return fields, record[len(_without_end(record)) :]


def csv_record(fields: Sequence[str], delimiter: str) -> str:
    """A record that is read as these fields."""
    told = [
        '"' + field.replace('"', '""') + '"' if any(sign in field for sign in (delimiter, '"', "\n", "\r")) else field
        for field in fields
    ]
    return delimiter.join(told)


def _extra_name(name: str) -> str:
    return shown(name).strip().lower()


class _Failure(Enum):
    STRAY = "a quote that makes no record, whatever follows"
    OPEN = "a quote that more text might close"


class _Csv:
    def __init__(self, texts: Iterator[str], layout: Layout, chunk_rows: int) -> None:
        self._blocks = _whole_lines(texts)
        self._layout = layout
        self._delimiter = layout.delimiter
        self._gather = Gather(len(layout.columns) + 1, chunk_rows)
        self._text = ""  # whole lines; before _at they are done with
        self._at = 0
        self._base = 0  # where in the object _text begins
        self._clean = True
        self._width = 0  # not known before the header
        self.spans: list[tuple[int, int]] | None = None  # where each record stands in the text, if somebody asks

    def read_header(self) -> list[str] | None:
        """The names as they stand in the object; None where it has no line."""
        record: list[str] | None = []
        while not record:
            if self._at == len(self._text) and not self._more():
                return None
            record, end = self._record()
            if record is None or _CUT in record[-1:]:
                raise Unreadable(
                    "broken_header",
                    "the header, in the first line, has a quote that is not closed or text behind a closing quote, or "
                    "does not end; correct it and land the object again",
                )
            self._at = end
        names = [fold(name) for name in record]
        known = set(map(fold, self._layout.columns))
        self.names, self._width = names, len(names)
        self._telling = max((name for name in names if '"' not in name), key=len, default="")
        self._faults = [
            *(f"missing_column:{name}" for name in sorted(self._layout.required) if fold(name) not in names),
            *(f"duplicate_column:{shown(name)}" for name, count in Counter(names).items() if count > 1),
        ]
        self._source = [names.index(fold(name)) if fold(name) in names else None for name in self._layout.columns]
        self._extra = [(_extra_name(name), i) for i, name in enumerate(record) if names[i] not in known]
        return record

    def chunks(self) -> Iterator[Chunk]:
        while self._at < len(self._text) or self._more():
            stop = self._base + len(self._text)
            if self._clean and not self._faults and self.spans is None:
                yield from self._take_sound()
            yield from self._walk(stop)
        if self._gather:
            yield self._gather.take()

    def _more(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        rest = self._text[self._at :]
        self._base += self._at
        self._text, self._at = rest + block, 0
        self._clean = is_utf8(block) and (self._clean or is_utf8(rest))
        return True

    # The fast way

    def _take_sound(self) -> Iterator[Chunk]:
        """Takes the sound records at the front of the text and moves `_at` behind them."""
        text = self._text[self._at :]
        plain = text.replace("\r\n", "\n") if "\r" in text else text
        if "\r" in plain:
            return  # within a value it is data, but csv takes it for the end of a line
        may_repeat = self._telling in plain.casefold()
        if '"' not in plain and not may_repeat and not plain.startswith("\n") and "\n\n" not in plain:
            plain = plain.removesuffix("\n")
            lines = plain.split("\n")
            if {line.count(self._delimiter) for line in lines} == {self._width - 1}:
                flat = plain.replace("\n", self._delimiter).split(self._delimiter)
                self._at = len(self._text)
                yield from self._accept([flat[i :: self._width] for i in range(self._width)], len(lines), len(plain))
                return
        lines = io.StringIO(text, newline="\n").readlines()
        rows: list[list[str]] = []
        try:
            rows.extend(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            may_repeat = True  # rows before the error stand; the walk judges what follows, so look at each of them
        sound, used = self._sound(rows, lines, may_repeat)
        size = sum(map(len, lines[:used]))
        self._at += size
        records = [row for row in islice(rows, sound) if row]
        if records:
            yield from self._accept(list(zip(*records, strict=True)), len(records), size)

    def _sound(self, rows: list[list[str]], lines: list[str], may_repeat: bool) -> tuple[int, int]:
        """How many leading rows the walk would accept too (or pass over as blank), and how many lines they take."""
        if len(rows) == len(lines) and not may_repeat and set(map(len, rows)) <= {self._width, 0}:
            return len(rows), len(lines)
        used = 0
        for i, row in enumerate(rows):
            if row and (len(row) != self._width or (may_repeat and self._repeats_header(row))):
                return i, used
            end = used + 1 + sum(value.count("\n") for value in row)
            if end > used + 1 and not _within_reach(end - used - 1, sum(map(len, lines[used + 1 : end]))):
                return i, used
            used = end
        return len(rows), used

    def _accept(self, columns: Sequence[Sequence[str]], count: int, chars: int) -> Iterator[Chunk]:
        """Takes records given by the object's columns."""
        values: list[list[str | None]] = []
        for source in self._source:
            found = [None] if source is None else columns[source]
            values.append([None] * count if source is None else [value or None for value in found])
        values.append(self._extras(columns, count))
        start = 0
        while start < count:
            if not self._gather.room:
                yield self._gather.take()
            stop = min(count, start + self._gather.room)
            part = values if stop - start == count else [column[start:stop] for column in values]
            self._gather.accept(part, stop - start, chars * (stop - start) // count)
            start = stop

    def _extras(self, columns: Sequence[Sequence[str]], count: int) -> list[str | None]:
        if not self._extra:
            return [None] * count
        names = [name for name, _ in self._extra]
        found = zip(*(columns[i] for _, i in self._extra), strict=True)
        return [_as_json({name: value or None for name, value in zip(names, row, strict=True)}) for row in found]

    # The walk

    def _walk(self, stop: int) -> Iterator[Chunk]:
        """Judges record by record what begins before `stop`, a place in the object."""
        sound: list[list[str]] = []
        chars = 0
        while self._base + self._at < stop:
            begin = self._base + self._at
            record, end = self._record()
            if record is None:
                raw, reasons = self._stretch(), ["open_quote"]
            else:
                raw = _without_end(self._text[self._at : end])
                reasons = self._defects(record) if record else []
                self._at = end
                if not record:
                    continue
            if self.spans is not None:
                self.spans.append((begin, self._base + self._at))
            if not is_utf8(raw):
                reasons.append("line_too_long" if _CUT in raw else "not_utf8")
            if record and not reasons and not self._faults:
                sound.append(record)
                chars += len(raw)
                continue
            if sound:
                yield from self._accept(list(zip(*sound, strict=True)), len(sound), chars)
                sound, chars = [], 0
            if not self._gather.room:
                yield self._gather.take()
            self._gather.refuse(shown(raw.replace(_CUT, "")), [*self._faults, *reasons])
        if sound:
            yield from self._accept(list(zip(*sound, strict=True)), len(sound), chars)

    def _record(self) -> tuple[list[str] | None, int]:
        """The record at `_at`, None where a stray quote stands, and where it ends; [] is a blank line."""
        while True:
            record, end = _parse(self._text, self._at, self._delimiter, self._width)
            if isinstance(record, list):
                return record, end
            if record is _Failure.STRAY or not self._more():
                return None, end

    def _defects(self, record: list[str]) -> list[str]:
        if len(record) != self._width:
            return ["too_many_fields" if len(record) > self._width else "too_few_fields"]
        return ["header_repeated"] if self._repeats_header(record) else []

    def _repeats_header(self, record: list[str]) -> bool:
        return fold(record[0]) == self.names[0] and [fold(value) for value in record] == self.names

    def _stretch(self) -> str:
        """Moves over the line at `_at`, up to the next that is a record by itself; returns what it moved over."""
        raw = Raw()
        first = True
        while self._at < len(self._text) or self._more():
            end = self._text.find("\n", self._at) + 1 or len(self._text)
            line = self._text[self._at : end]
            if not first:
                record, _ = _parse(line, 0, self._delimiter, self._width)
                if isinstance(record, list) and len(record) == self._width:
                    break
            raw.add(line)
            self._at = end
            first = False
        return _without_end(str(raw))


def _parse(text: str, start: int, delimiter: str, width: int) -> tuple[list[str] | _Failure, int]:
    """The fields of the record at `start`, [] for a blank line, and where the next one begins.

    A record of more than one line counts only if it keeps within reach, and has `width` fields; 0: any number.
    """
    end = text.find("\n", start) + 1 or len(text)
    stop = _stop(text, start, end)
    if start == stop:
        return [], end
    if text.find('"', start, stop) < 0:
        return text[start:stop].split(delimiter), end
    first_end, limit = end, end + AHEAD_CHARS
    fields: list[str] = []
    at = start
    while True:
        if text.startswith('"', at):
            close = text.find('"', at + 1, limit)
            while close >= 0 and text.startswith('"', close + 1):
                close = text.find('"', close + 2, limit)
            if close < 0:
                return (_Failure.OPEN if len(text) <= limit else _Failure.STRAY), end
            fields.append(text[at + 1 : close].replace('""', '"'))
            at = close + 1
            if at > end:
                end = text.find("\n", at) + 1 or len(text)
                stop = _stop(text, at, end)
        else:
            close = text.find(delimiter, at, stop)
            fields.append(text[at : stop if close < 0 else close])
            at = stop if close < 0 else close
        if at == stop:
            break
        if text[at] != delimiter or (end > first_end and len(fields) == width):
            return _Failure.STRAY, end
        at += 1
    if end > first_end:
        right = len(fields) == width or not width
        if not right or not _within_reach(text.count("\n", first_end - 1, end - 1), end - first_end):
            return _Failure.STRAY, end
    return fields, end


def _stop(text: str, start: int, end: int) -> int:
    """Where the line that ends at `end` stops being data."""
    if end > start and text[end - 1] == "\n":
        return end - 2 if end - 2 >= start and text[end - 2] == "\r" else end - 1
    return end


def _without_end(text: str) -> str:
    return text[: _stop(text, 0, len(text))]


def _within_reach(lines: int, chars: int) -> bool:
    return lines <= AHEAD_LINES and chars <= AHEAD_CHARS


def _whole_lines(texts: Iterator[str]) -> Iterator[str]:
    """The same text, cut behind line ends only; of a line without end RAW_CHARS characters are kept, and _CUT."""
    held: list[str] = []  # the line that has no end yet
    size = 0
    for text in texts:
        first = text.find("\n")
        part = text if first < 0 else text[:first]
        if size <= RAW_CHARS:
            held.append(part[: RAW_CHARS - size] + (_CUT if size + len(part) > RAW_CHARS else ""))
        size += len(part)
        if first >= 0:
            last = text.rfind("\n") + 1
            yield "".join(held) + text[first:last]
            held, size = [text[last:]], len(text) - last
    if rest := "".join(held):
        yield rest
