"""Reads JSON: objects one per line, one after another, or in one top-level array.

What is sound goes through the decoder of the standard library. Where that fails, `_scan` reads token by token: it tells
a cut object from a broken one, and which braces need not be tried again, so that no input takes more than linear time.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any, BinaryIO

from c360_assets.reading_record import (
    CHUNK_ROWS,
    RAW_CHARS,
    Chunk,
    Gather,
    Layout,
    Raw,
    Reading,
    fold,
    is_utf8,
    shown,
    text_blocks,
)

OBJECT_CHARS = RAW_CHARS  # a longer object is broken
_SPELLINGS = 10_000  # of field names, remembered

_BLANKS = re.compile(r"[ \t\n\r]*+")
_NULL = re.compile(r"null(?=[ \t\n\r,\]{]|\Z)")
_STRING = r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
# A brace that may begin an object, as far as its first name tells, or the end of the text.
_BRACE = re.compile(r'\{(?=[ \t\n\r]*+(?:\}|\Z|"[^"]*+\Z|"[^"]*+\\|' + _STRING + r"[ \t\n\r]*+(?::|\Z)))")
_TOKEN = re.compile(
    rf"[ \t\n\r]*+(?:({_STRING})"
    r"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null)"
    r"|([{}\[\]:,]))"
)
# A token of which the end is cut.
_PART = re.compile(r'[ \t\n\r]*+(?:"(?:[^"\\\x00-\x1f]++|\\.)*+\\?|[-+.0-9a-zA-Z]*+)')
# What a token leads to: the key is the state and the token, of which strings are '"' and other scalars "1".
_NEXT = {
    ("value", '"'): "after",
    ("value", "1"): "after",
    ("value", "{"): "first name",
    ("value", "["): "first item",
    ("first item", '"'): "after",
    ("first item", "1"): "after",
    ("first item", "{"): "first name",
    ("first item", "["): "first item",
    ("first item", "]"): "close",
    ("first name", '"'): "colon",
    ("first name", "}"): "close",
    ("name", '"'): "colon",
    ("colon", ":"): "value",
    ("in object", ","): "name",
    ("in object", "}"): "close",
    ("in array", ","): "value",
    ("in array", "]"): "close",
}


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Objects come as tuples of pairs (duplicate names and their order are kept), arrays as lists.
_DECODER = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant
)


def read_json(stream: BinaryIO, layout: Layout, block_bytes: int, chunk_rows: int) -> Reading:
    """Reads lazily; `present` and `unknown` fill while the chunks are read."""
    reading = Reading(frozenset(), frozenset(), iter(()))
    reading.chunks = _Json(text_blocks(stream, block_bytes), layout, chunk_rows, reading).chunks()
    return reading


def json_spans(text: str, layout: Layout) -> tuple[list[tuple[int, int]], set[int]]:
    """Of a whole text: where each record begins and ends, and which are refused."""
    reader = _Json(iter([text]), layout, CHUNK_ROWS, Reading(frozenset(), frozenset(), iter(())))
    spans = reader.spans = []
    refused = {record.row for chunk in reader.chunks() for record in chunk.refused}
    return spans, refused


def decoded(text: str) -> Any:
    """A JSON text as this module has it: objects are tuples of pairs, numbers as they are written."""
    return _DECODER.decode(text)


def compact(value: Any) -> str:
    """A decoded value as JSON text without blanks, its numbers as they were written."""
    if isinstance(value, _Number):
        return value
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{','.join(map(compact, value))}]"
    return "{" + ",".join(f"{encode_basestring(name)}:{compact(inner)}" for name, inner in value) + "}"


def as_text(value: Any) -> str | None:
    """A decoded value as the staging table has it."""
    if value is None or type(value) is str:
        return value
    return str(value) if type(value) is _Number else compact(value)


def _nested_twice(value: Any) -> Iterator[str]:
    """Names that stand twice in an object within a decoded value: what reads the document later would choose one."""
    if type(value) is tuple:
        names = [name for name, _ in value]
        if len(set(names)) < len(names):
            yield from {name for name in names if names.count(name) > 1}
        for _, inner in value:
            yield from _nested_twice(inner)
    elif type(value) is list:
        for inner in value:
            yield from _nested_twice(inner)


@dataclass
class _Scan:
    """What stands at a brace: an object up to `end`, or a broken one."""

    end: int | None = None
    cut: bool = False  # it is the beginning of an object, and there the text ends
    inner: list[int] = field(default_factory=list)  # braces that need not be tried: within a broken object
    apart: list[int] = field(default_factory=list)  # braces of objects within it that begin a line: records, likely


def _scan(text: str, start: int) -> _Scan:
    """Reads the object at `start` token by token, as far as an object may go.

    An object nested in a broken one belongs to it, with two exceptions: it begins a line, or it is the last thing
    before the text ceased to make sense. Then the break is likely before it, in a record cut where a value should
    stand. An object still open at the break would break there as well.
    """
    scan = _Scan()
    opened: list[int] = []
    stop = start + OBJECT_CHARS
    state, at, last = "value", start, None
    while True:
        match = _TOKEN.match(text, at, stop)
        if match is None:
            break
        kind = match.lastindex or 0
        sign = '"' if kind == 1 else "1" if kind == 2 else match.group(3)
        state = _NEXT.get((state, sign), "")
        if not state:
            break
        at, last = match.end(), None
        if sign in "{[":
            opened.append(at - 1)
        elif state == "close":
            begin = opened.pop()
            if not opened:
                scan.end = at
                return scan
            if sign == "}":
                last = begin
                (scan.apart if text[begin - 1] == "\n" else scan.inner).append(begin)
        if state in ("after", "close"):
            state = "in object" if text[opened[-1]] == "{" else "in array"
    if match is None and stop >= len(text):
        part = _PART.match(text, at)
        scan.cut = part is not None and part.end() == len(text)
    if last is not None and not scan.cut and scan.inner[-1:] == [last]:
        scan.inner.pop()
    scan.inner.extend(begin for begin in opened if text[begin] == "{")
    scan.apart.sort()
    return scan


class _Json:
    def __init__(self, texts: Iterator[str], layout: Layout, chunk_rows: int, reading: Reading) -> None:
        self._blocks = texts
        self._layout = layout
        self._reading = reading
        self._gather = Gather(len(layout.columns) + 1, chunk_rows)
        self._declared = {fold(column): i for i, column in enumerate(layout.columns)}
        self._required = {fold(column): column for column in sorted(layout.required)}
        self._spellings: dict[str, tuple[str, int | None]] = {}
        self._text = ""
        self._at = 0
        self._base = 0  # where in the object _text begins
        self._clean = True
        self._ended = False
        self._careful = 0  # the place in the object up to which to scan before decoding
        self._inner: set[int] = set()  # places of braces that are known to begin no record
        self._inner_end = 0
        self.spans: list[tuple[int, int]] | None = None  # where each record stands in the text, if somebody asks

    def chunks(self) -> Iterator[Chunk]:
        in_array, after_value, first = False, False, True
        while self._skip_blanks():
            if not self._gather.room:
                yield self._gather.take()
            char = self._text[self._at]
            if (char == "[" and first) or (char == "," and in_array and after_value) or (char == "]" and in_array):
                in_array = char != "]"
                after_value = first = False
                self._at += 1
                continue
            begin = self._base + self._at
            if char == "n" and self._layout.tombstones and self._is_null():
                self._gather.accept_one(["null", None], 4)
                self._at += 4
            elif not (char == "{" and self._take_object()):
                self._refuse_stretch()
            if self.spans is not None:
                self.spans.append((begin, self._base + self._at))
            after_value, first = True, False
        if self._gather:
            yield self._gather.take()

    # Text

    def _more(self, until: int = 0) -> bool:
        """Reads one block, or as many as it takes to have more than `until` characters in sight."""
        parts = [self._text[self._at :]]
        size = len(parts[0])
        clean = self._clean or is_utf8(parts[0])
        for block in self._blocks:
            parts.append(block)
            size += len(block)
            clean = clean and is_utf8(block)
            if size > until:
                break
        else:
            self._ended = True
        self._base += self._at
        self._text, self._at, self._clean = "".join(parts), 0, clean
        return len(parts) > 1

    def _scan(self) -> _Scan:
        """What stands at `_at`, a brace; reads on until that is certain."""
        scan = _scan(self._text, self._at)
        while scan.cut and not self._ended:
            self._more(2 * (len(self._text) - self._at))  # twice as far each time, so that all the scans stay linear
            scan = _scan(self._text, self._at)
        return scan

    def _skip_blanks(self) -> bool:
        """Moves to the next character that is no blank; False at the end of the object."""
        while True:
            match = _BLANKS.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return True
            if not self._more():
                return False

    def _is_null(self) -> bool:
        """Does the value null stand at `_at`?"""
        while len(self._text) - self._at < 5 and self._more():
            pass
        return _NULL.match(self._text, self._at) is not None

    # Records

    def _take_object(self) -> bool:
        """Takes the object at `_at`, a brace; False if it is broken."""
        decoded = None
        if self._base + self._at >= self._careful:
            decoded = self._decode()
            if decoded is None:
                # An error of the decoder costs as much as the text before it is long: not too many in a row.
                self._careful = self._base + self._at + self._at // 256
        if decoded is None and self._scan().end is not None:
            decoded = self._decode()
        if decoded is None:
            return False
        values, reasons, end = decoded
        if reasons:
            self._gather.refuse(shown(self._text[self._at : end]), reasons)
        else:
            self._gather.accept_one(values, end - self._at)
        self._at = end
        return True

    def _decode(self) -> tuple[list[str | None], list[str], int] | None:
        """The values of the object at `_at`, the reasons against it, and its end; None if it cannot be decoded."""
        try:
            pairs, end = _DECODER.raw_decode(self._text, self._at)
            if end - self._at > OBJECT_CHARS:
                return None
            values, reasons = self._values(pairs, end)
        except (ValueError, RecursionError):  # nested too deep is as good as broken
            return None
        return values, reasons, end

    def _values(self, pairs: tuple[tuple[str, Any], ...], end: int) -> tuple[list[str | None], list[str]]:
        payload = self._layout.payload
        values: list[str | None] = [None] * (len(self._layout.columns) + 1)
        seen: set[str] = set()
        twice: dict[str, None] = {}
        extra: list[str] = []
        for name, value in pairs:
            folded, place = self._spellings.get(name) or self._spelling(name)
            if folded in seen:
                twice[folded] = None
            seen.add(folded)
            if payload:
                continue
            if place is None:
                extra.append(f"{encode_basestring(name.strip().lower())}:{compact(value)}")
            else:
                values[place] = as_text(value)
        if payload:
            twice |= dict.fromkeys(name for _, value in pairs for name in _nested_twice(value))
        reasons = [f"duplicate_column:{shown(name)}" for name in twice]
        if payload:
            values[0] = self._text[self._at : end]
            self._reading.present = frozenset(self._layout.columns)
        else:
            reasons += [f"missing_column:{column}" for name, column in self._required.items() if name not in seen]
            values[-1] = "{" + ",".join(extra) + "}" if extra else None
        if not self._clean and not is_utf8(self._text[self._at : end]):
            reasons.append("not_utf8")
        elif self._text.find("\\u", self._at, end) >= 0 and not all(
            is_utf8(value) for value in ((compact(pairs),) if payload else values) if value
        ):
            reasons.append("lone_surrogate")  # "\\ud800" is JSON, but no text that can be stored
        return values, reasons

    def _spelling(self, name: str) -> tuple[str, int | None]:
        """How a field name compares, and its place among the columns."""
        folded = fold(name)
        place = self._declared.get(folded)
        if not self._layout.payload:
            if place is None:
                self._reading.unknown |= {shown(name).strip().lower()}
            else:
                self._reading.present |= {self._layout.columns[place]}
        if len(self._spellings) < _SPELLINGS:
            self._spellings[name] = folded, place
        return folded, place

    def _refuse_stretch(self) -> None:
        """Refuses as one the text from `_at` to the next brace at which an object parses."""
        if self._base + self._at > self._inner_end:
            self._inner.clear()
        raw = Raw()
        look = self._at
        while True:
            brace = _BRACE.search(self._text, look)
            raw.add(self._text[self._at : brace.start() if brace else None])
            self._at = brace.start() if brace else len(self._text)
            if brace is None:
                if not self._more():
                    break
                look = 0
                continue
            look = self._at + 1
            if self._base + self._at in self._inner:
                continue
            scan = self._scan()
            look = self._at + 1 if scan.end is None else scan.end
            if scan.end is not None and self._decode() is not None:
                break
            if scan.cut:
                stop = scan.apart[0] if scan.apart else len(self._text)
                raw.add(self._text[self._at : stop])
                self._at = stop
                break
            self._inner.update(self._base + begin for begin in scan.inner)
            self._inner_end = max(self._inner_end, self._base + max(scan.inner, default=0))
        text = str(raw).rstrip(" \t\r\n")
        self._gather.refuse(shown(text), ["broken_json"] if is_utf8(text) else ["broken_json", "not_utf8"])
