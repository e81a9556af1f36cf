"""Changes of customers as AWS DMS writes them to S3: CSV with a header, a full load first, then files of changes.

The load (`LOAD00000001.csv`, counted in hexadecimal) has neither operation nor time. The others are named by when they
were closed and have `Op` (I, U, D), then `dms_timestamp`, when the transaction was committed. Nothing states a
position, so no transaction changes a customer twice, but for the ties that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from generator.changes import COLUMNS, Change, ChangeFaults, ChangeSpec, Database, Row
from generator.faults import FILE_KINDS, Names, broken_file, csv_body, deliver, plan_files, share_of, with_broken_rows
from generator.objects import GeneratedObject

OF_CHANGES = ("Op", "dms_timestamp")
_OPS = {"insert": "I", "update": "U", "delete": "D"}
_NAMES = Names(key="customer_id", time="dms_timestamp", op="Op")
_EMAIL = len(OF_CHANGES) + COLUMNS.index("email")


@dataclass(frozen=True)
class DmsFaults(ChangeFaults):
    """Those of all changes, and one that needs rows without position."""

    ties: float = field(default=0.0, metadata={"help": "rows contradicted by another of the same time"})


DMS_MIX = DmsFaults(
    late=0.02,
    duplicate_files=0.05,
    renamed_files=0.05,
    broken_files=0.02,
    broken_rows=0.005,
    redelivered=0.02,
    nulls=0.02,
    ties=0.005,
)
"""Some of everything, at shares that a bad but real task shows."""


@dataclass(frozen=True)
class DmsSpec(ChangeSpec):
    """A run of one task."""

    faults: DmsFaults = field(default_factory=DmsFaults)


def generate(spec: DmsSpec) -> Iterator[GeneratedObject]:
    """The objects of a run in the order of sending, each with what has to become of it."""
    total = spec.load_files + spec.files
    plan = plan_files(spec.faults, total, spec.seed, spec.faults.broken_files, FILE_KINDS)

    def files() -> Iterator[tuple[GeneratedObject, str]]:
        random = Random(f"broken rows {spec.seed}")
        for number, (name, header, rows) in enumerate(_sheets(spec)):
            modified = spec.instant(max(0, number - spec.load_files + 1))
            file = GeneratedObject(f"customers_dms/{name}.csv", b"", number, modified)
            if number in plan.broken:
                file = broken_file(plan.broken[number], file, header, rows, _NAMES)
            elif spec.faults.broken_rows:
                body, refused = with_broken_rows(header, rows, spec.faults.broken_rows, random, _NAMES)
                file = replace(file, body=body, refused=refused)
            else:
                file = replace(file, body=csv_body(header, rows))
            yield file, f"customers_dms/{name}_copy.csv"

    return deliver(files(), plan, Random(f"delivery {spec.seed}"))


def _sheets(spec: DmsSpec) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Name, header and sound rows of each file."""
    random = Random(f"task {spec.seed}")
    chance = Random(f"faults {spec.seed}")  # of its own, so that what a fault leaves alone stays as it is
    database = Database(spec, again=False)
    load = [_fields(row) for row in database.load()]
    for number in range(spec.load_files):
        rows = load[number * spec.rows_per_file : (number + 1) * spec.rows_per_file]
        yield f"LOAD{number + 1:08X}", [*COLUMNS], rows
    before: list[list[str]] = []
    for number in range(spec.files):
        rows = [_changed(change, random) for change in database.changes(number)]
        again = chance.sample(before, share_of(spec.faults.redelivered, len(before), chance))
        before = [*rows]
        for row in chance.sample(rows, share_of(spec.faults.ties, len(rows), chance)):
            rows.insert(chance.randint(0, len(rows)), _contradicted(row, chance))
        for row in again:
            rows.insert(chance.randint(0, len(rows)), row)
        closed = spec.instant(number + 1)
        yield f"{closed:%Y%m%d-%H%M%S}{random.randrange(1000):03d}", [*OF_CHANGES, *COLUMNS], rows


def _fields(row: Row) -> list[str]:
    return [row[column] or "" for column in COLUMNS]


def _changed(change: Change, random: Random) -> list[str]:
    row = change.after or change.before or {}
    if change.op == "delete" and random.random() < 0.5:  # a source may log of a deleted row no more than its key
        row = {**dict.fromkeys(COLUMNS), "customer_id": row["customer_id"]}
    return [_OPS[change.op], f"{change.at:%Y-%m-%d %H:%M:%S.%f}", *_fields(row)]


def _contradicted(row: list[str], random: Random) -> list[str]:
    """Another row of the same customer and time: another address, or now and then that there is nobody."""
    other = [*row]
    if row[0] == "D" or random.random() < 0.3:
        other[0] = "U" if row[0] == "D" else "D"
    else:
        other[_EMAIL] = f"other.{row[_EMAIL]}"
    return other
