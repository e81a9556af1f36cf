"""Changes of customers as Debezium's envelopes, JSON lines in files as a sink connector of Kafka writes them to S3.

First comes the snapshot (op r), then what was inserted (c), updated (u) and deleted (d, and a line `null` after it), in
one file all that is gone at once (t). Shapes are those of Debezium's own examples. Equal specs give equal bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Any, TypeAlias

from generator.changes import COLUMNS, Change, ChangeFaults, ChangeSpec, Database, Row
from generator.faults import deliver, plan_files, share_of
from generator.objects import GeneratedObject

Envelope: TypeAlias = dict[str, Any]

CONNECTORS = ("mysql", "postgresql")
TIMES = ("ns", "us", "ms", "none")
FILE_KINDS = ("no_bytes", "cut_gzip")

_EPOCH = datetime(1970, 1, 1)
_OPS = {"insert": "c", "update": "u", "delete": "d"}
_UNITS = ("ts_ms", "ts_us", "ts_ns")
_NO_TEXT = "\ue000"  # stands for a byte that is no UTF-8
_LAG = 200_000_000  # nanoseconds from a change to its envelope


DEBEZIUM_MIX = ChangeFaults(
    late=0.02,
    duplicate_files=0.05,
    renamed_files=0.05,
    broken_files=0.02,
    broken_rows=0.005,
    redelivered=0.02,
    nulls=0.02,
)
"""Some of everything, at shares that a bad but real pipeline shows."""


@dataclass(frozen=True)
class DebeziumSpec(ChangeSpec):
    """A run of one connector. `times` is the finest unit in which the source states the time of a change.

    `timed_load`: the snapshot's rows have a time of the source too. `truncate`: the file in the middle is one truncate.
    """

    connector: str = "mysql"
    wrapped: bool = False
    times: str = "ns"
    timed_load: bool = False
    truncate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("connector", CONNECTORS), ("times", TIMES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; there are: {', '.join(choices)}")
        if self.timed_load and self.times == "none":
            raise ValueError("timed_load with times none: the source either states times or does not")


def generate(spec: DebeziumSpec) -> Iterator[GeneratedObject]:
    """The objects of a run in the order of sending. `refused` counts every line as a record, `null` lines too."""
    total = spec.load_files + spec.files
    plan = plan_files(spec.faults, total, spec.seed, spec.faults.broken_files, FILE_KINDS)

    def files() -> Iterator[tuple[GeneratedObject, str]]:
        random, offset = Random(f"broken lines {spec.seed}"), 0
        for number, entries in enumerate(_Connector(spec).files()):
            entries = _with_broken(entries, spec.faults.broken_rows, random)
            lines = [line for entry in entries for line in entry.lines(spec.wrapped)]
            name = f"customers_debezium/shop.inventory.customers+0+{offset:010d}"
            offset += len(lines)
            file = GeneratedObject(
                name=f"{name}.json",
                body=b"".join(line + b"\n" for line in lines),
                arrival=number,
                modified=spec.instant(max(0, number - spec.load_files + 1)),
                refused=_refused(entries),
            )
            if number in plan.broken:
                file = _broken_file(plan.broken[number], file)
            yield file, f"{name}_copy.json"

    return deliver(files(), plan, Random(f"delivery {spec.seed}"))


@dataclass(frozen=True)
class _Entry:
    """An envelope, and why it must be refused, if so. A delete is followed by a tombstone."""

    envelope: Envelope
    refused: str | None = None
    tombstone: bool = False
    cut_after: int | None = None

    def lines(self, wrapped: bool) -> list[bytes]:
        """The entry as it stands in a file."""
        text = _text(self.envelope)
        if wrapped:
            text = f'{{"schema":{_SCHEMA},"payload":{text}}}'
        line = text[: self.cut_after].encode().replace(_NO_TEXT.encode(), b"\xe9")
        return [line, b"null"] if self.tombstone else [line]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refused(entries: Iterable[_Entry]) -> dict[int, str]:
    refused: dict[int, str] = {}
    line = 1
    for entry in entries:
        if entry.refused:
            refused[line] = entry.refused
        line += 2 if entry.tombstone else 1
    return refused


def _broken_file(kind: str, file: GeneratedObject) -> GeneratedObject:
    if kind == "no_bytes":
        return replace(file, body=b"", refused={})
    packed = gzip.compress(file.body, mtime=0)
    return replace(file, name=f"{file.name}.gz", body=packed[: len(packed) * 2 // 3], refused={}, unreadable=True)


# --- the connector ----------------------------------------------------------------------------------------------------


class _Connector:
    """What the connector sends file by file: the snapshot, then the changes, some of them twice."""

    def __init__(self, spec: DebeziumSpec) -> None:
        self.spec = spec
        self.log: _MySql | _PostgreSql = _MySql(spec) if spec.connector == "mysql" else _PostgreSql(spec)
        self.random = Random(f"connector {spec.seed}")
        self.chance = Random(f"redelivered {spec.seed}")  # of its own, so that what a fault leaves alone stays as it is
        self.clock = 0  # nanoseconds: no envelope is as old as the one before it

    def files(self) -> Iterator[list[_Entry]]:
        spec = self.spec
        database = Database(spec, again=True)
        load = [self._read(row, at, spec.loaded) for at, row in enumerate(database.load())]
        for begin in range(0, len(load), spec.rows_per_file):
            yield (before := load[begin : begin + spec.rows_per_file])
        for number in range(spec.files):
            if spec.truncate and number == spec.files // 2:
                # A file of its own: then no other change shares its instant, even in whole seconds.
                database.truncate()
                entries = [self._truncated(database.transactions, spec.instant(number))]
            else:
                entries = [self._changed(change) for change in database.changes(number)]
            again = [self._sent_again(entry) for entry in self._some_of(before)]
            before = [*entries]
            for entry in again:
                entries.insert(self.chance.randint(0, len(entries)), entry)
            yield entries

    def _some_of(self, entries: list[_Entry]) -> list[_Entry]:
        return self.chance.sample(entries, share_of(self.spec.faults.redelivered, len(entries), self.chance))

    def _read(self, row: Row, at: int, total: int) -> _Entry:
        taken = self.spec.instant(-1)
        times = _times(_nanoseconds(taken), self.spec.times) if self.spec.timed_load else {}
        place = "first" if at == 0 else "last" if at == total - 1 else "true"
        return _Entry(self._envelope("r", None, _image(row), self.log.source(times, place, 0), taken))

    def _changed(self, change: Change) -> _Entry:
        self.log.advance(change.statement_row)
        source = self.log.source(self._stated(change.at, change.transaction), "false", change.transaction)
        before, after = self.log.before(change), _image(change.after) if change.after else None
        envelope = self._envelope(_OPS[change.op], before, after, source, change.at)
        return _Entry(envelope, tombstone=change.op == "delete")

    def _truncated(self, transaction: int, at: datetime) -> _Entry:
        self.log.advance(0)
        source = self.log.source(self._stated(at, transaction), "false", transaction)
        return _Entry(self._envelope("t", None, None, source, at))

    def _stated(self, at: datetime, transaction: int) -> dict[str, int]:
        """A change's times in the source. What is finer than a microsecond is the same for all of a transaction."""
        return _times(self.log.tick(_nanoseconds(at), transaction), self.spec.times)

    def _envelope(
        self, op: str, before: Envelope | None, after: Envelope | None, source: Envelope, at: datetime
    ) -> Envelope:
        later, lag = self.random.randint(1_001, 99_999), _LAG + self.random.randrange(1000)
        self.clock = max(self.clock + later, _nanoseconds(at) + lag)
        sent = _times(self.clock, "ns" if self.spec.times == "none" else self.spec.times)
        return {"before": before, "after": after, "source": source, "transaction": None, "op": op, **sent}

    def _sent_again(self, entry: _Entry) -> _Entry:
        """The same change in an envelope of a later time, unless it is the envelope that tells when it was."""
        return replace(entry, envelope=entry.envelope | _times(self.clock, self.spec.times))


class _MySql:
    """A binlog: time in whole seconds; a place is file, position and the row within its statement."""

    def __init__(self, spec: DebeziumSpec) -> None:
        self.random = Random(f"binlog {spec.seed}")
        self.file, self.pos, self.row = 999_998, 157, 0  # as text the file after the next one comes before all others

    def advance(self, statement_row: int) -> None:
        """Goes on to the next change."""
        self.row = statement_row
        if statement_row == 0:
            self.pos += self.random.randint(200, 900)
        if self.pos > 99_999:
            self.file, self.pos = self.file + 1, 157

    def tick(self, nanoseconds: int, transaction: int) -> int:
        """A time as the log has it."""
        return nanoseconds // 10**9 * 10**9

    def before(self, change: Change) -> Envelope | None:
        """The whole row as it was."""
        return _image(change.before) if change.before else None

    def source(self, times: dict[str, int], snapshot: str, transaction: int) -> Envelope:
        """Where the present change comes from."""
        return {
            "version": "3.0.1.Final",
            "connector": "mysql",
            "name": "shop",
            **times,
            "snapshot": snapshot,
            "db": "inventory",
            "sequence": None,
            "table": "customers",
            "server_id": 223344 if transaction else 0,
            "gtid": None,
            "file": f"mysql-bin.{self.file:06d}",
            "pos": self.pos,
            "row": self.row,
            "thread": 102 if transaction else None,
            "query": None,
        }


class _PostgreSql:
    """A write-ahead log: time in microseconds; a place is one number, too great for a float."""

    def __init__(self, spec: DebeziumSpec) -> None:
        self.random = Random(f"wal {spec.seed}")
        self.lsn, self.committed, self.transaction = 2**53, 2**53 - 56, 0

    def advance(self, statement_row: int) -> None:
        """Goes on to the next change."""
        self.lsn += self.random.choice((1, 56, 232))

    def tick(self, nanoseconds: int, transaction: int) -> int:
        """A time as the log has it."""
        return nanoseconds + transaction % 1000

    def before(self, change: Change) -> Envelope | None:
        """What the default replica identity keeps: of a deleted row its key, of an updated one nothing."""
        return {**dict.fromkeys(COLUMNS), **_key(change.before)} if change.before and change.op == "delete" else None

    def source(self, times: dict[str, int], snapshot: str, transaction: int) -> Envelope:
        """Where the present change comes from."""
        if transaction != self.transaction:
            self.committed, self.transaction = self.lsn - 1, transaction
        return {
            "version": "3.0.1.Final",
            "connector": "postgresql",
            "name": "shop",
            **times,
            "snapshot": snapshot,
            "db": "shop",
            "sequence": f'["{self.committed}","{self.lsn}"]',
            "schema": "inventory",
            "table": "customers",
            "txId": 767 + transaction,
            "lsn": self.lsn,
            "xmin": None,
        }


def _image(row: Row) -> Envelope:
    """A row as Debezium has it: a date is the days since 1970."""
    signup = row["signup_date"]
    days = None if signup is None else (date.fromisoformat(signup) - _EPOCH.date()).days
    return {**row, "signup_date": days}


def _key(row: Row) -> Envelope:
    return {"customer_id": row["customer_id"]}


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def _times(nanoseconds: int, finest: str) -> dict[str, int]:
    """A time in each unit up to the finest."""
    units = {"ns": 3, "us": 2, "ms": 1, "none": 0}[finest]
    return dict(list(zip(_UNITS, (nanoseconds // 10**6, nanoseconds // 10**3, nanoseconds), strict=True))[:units])


def _struct(field: str, columns: dict[str, str]) -> Envelope:
    fields = [{"type": type_, "optional": True, "field": name} for name, type_ in columns.items()]
    return {"type": "struct", "fields": fields, "optional": True, "field": field}


_OF_ROW = {name: "int32" if name == "signup_date" else "string" for name in COLUMNS}
_SCHEMA = _text(
    {
        "type": "struct",
        "fields": [_struct("before", _OF_ROW), _struct("after", _OF_ROW), _struct("source", {"ts_ms": "int64"})],
        "optional": False,
        "name": "shop.inventory.customers.Envelope",
        "version": 2,
    }
)


# --- broken lines -----------------------------------------------------------------------------------------------------


def _with_broken(entries: list[_Entry], share: float, random: Random) -> list[_Entry]:
    """The entries of a file, some of them broken; a truncate never is."""
    broken = [*entries]
    if share:
        for at in sorted(random.sample(range(len(entries)), share_of(share, len(entries), random))):
            after_cut = at > 0 and broken[at - 1].refused == "broken_json"
            kinds = _kinds(entries[at], after_cut)
            if kinds:
                broken[at] = _broken(random.choice(kinds), entries[at], random)
    return broken


def _kinds(entry: _Entry, after_cut: bool) -> list[str]:
    """How an entry can break. Two cut lines in a row, or one and its tombstone, would be read as one record."""
    op = entry.envelope["op"]
    if op == "t":
        return []
    kinds = ["blank_key", "unknown_op", "not_utf8"]
    kinds += ["broken_json"] if not entry.tombstone and not after_cut else []
    kinds += ["unreadable_time"] if op != "r" else []  # one that is read without a time counts from the beginning
    kinds += ["unreadable_date"] if op != "d" else []
    return kinds


def _broken(kind: str, entry: _Entry, random: Random) -> _Entry:
    envelope = {**entry.envelope}
    image = "before" if envelope["op"] == "d" else "after"
    cut_after = None
    if kind == "blank_key":
        envelope[image] = {**envelope[image], "customer_id": random.choice((None, "", "  "))}
    elif kind == "unknown_op":
        envelope["op"] = random.choice(("x", "upsert"))
    elif kind == "not_utf8":
        envelope["source"] = {**envelope["source"], "name": f"shop{_NO_TEXT}"}
    elif kind == "unreadable_time":
        envelope = {name: value for name, value in envelope.items() if name not in _UNITS}
        envelope["source"] = {**envelope["source"], **dict.fromkeys(_UNITS)}
    elif kind == "unreadable_date":
        envelope[image] = {**envelope[image], "signup_date": "soon"}
    elif kind == "broken_json":
        cut_after = random.randint(2, 8)  # in the first name: anywhere else what comes next could be read otherwise
    return replace(entry, envelope=envelope, refused=kind, cut_after=cut_after)
