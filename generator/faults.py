"""What can go wrong between a source and its files, on request: rows and files that break, files late, twice, renamed.

Nothing here knows customers or tills. Faults that need a customer's life (deletes, ties, nulls) are only declared here
and made by the generator in question. Every choice comes from its own random numbers, so a run can be repeated.
"""

from __future__ import annotations

import csv
import gzip
import heapq
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from random import Random

from generator.objects import GeneratedObject


def check_share(name: str, share: float) -> None:
    """ValueError unless it is one."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} is {share:g}: a share lies between 0 and 1")


def fault_share(text: str) -> float:
    """The field of a fault: its share, none unless asked for, and what the command says of it."""
    share: float = field(default=0.0, metadata={"help": text})
    return share


@dataclass(frozen=True)
class FileFaults:
    """What befalls whole files on their way, whatever is in them: of a share at least one, if there can be."""

    late: float = fault_share("files that arrive after files of a later instant")
    duplicate_files: float = fault_share("files sent again under the same name")
    renamed_files: float = fault_share("files sent again under another name")

    def __post_init__(self) -> None:
        for each in fields(self):
            check_share(each.name, getattr(self, each.name))


@dataclass(frozen=True)
class Faults(FileFaults):
    """The share, from 0 to 1, of the files or rows that each fault befalls. Of files at least one, if there can be."""

    broken_files: float = fault_share("files without customer_id, of 0 bytes, of a header only, or cut gzip")
    broken_rows: float = fault_share(
        "rows with a wrong number of fields, no id, no UTF-8, a header again, or an open quote"
    )
    duplicate_rows: float = fault_share("rows that stand twice in their file")
    deletes: float = fault_share("rows that delete their customer; adds the column op")
    reinserts: float = fault_share("deleted customers that come back; needs --deletes")
    ties: float = fault_share("rows contradicted by another of the same time; half the files then have updated_at")
    nulls: float = fault_share("rows with an empty field")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reinserts and not self.deletes:
            raise ValueError("reinserts without deletes: only a deleted customer can come back")


MIX = Faults(
    late=0.02,
    duplicate_files=0.05,
    renamed_files=0.05,
    broken_files=0.02,
    broken_rows=0.005,
    duplicate_rows=0.01,
    deletes=0.01,
    reinserts=0.5,
    ties=0.005,
    nulls=0.02,
)
"""Some of everything, at shares that a bad but real source shows."""


@dataclass(frozen=True)
class FilePlan:
    """Which files of a run, by their number, suffer what. A broken file is neither sent again nor renamed."""

    late: frozenset[int]
    again: frozenset[int]
    renamed: frozenset[int]
    broken: Mapping[int, str]


def plan_files(faults: FileFaults, files: int, seed: int | str, broken_share: float, kinds: Sequence[str]) -> FilePlan:
    """Chooses the files, for each fault with random numbers of its own. The last is never late: nothing follows it.

    The broken ones take turns in the `kinds`.
    """
    broken = some_of(range(files), broken_share, Random(f"broken {seed}"))
    first_kind = Random(f"broken kind {seed}").randrange(len(kinds))
    sound = sorted(set(range(files)) - set(broken))
    return FilePlan(
        late=frozenset(some_of(range(files - 1), faults.late, Random(f"late {seed}"))),
        again=frozenset(some_of(sound, faults.duplicate_files, Random(f"again {seed}"))),
        renamed=frozenset(some_of(sound, faults.renamed_files, Random(f"renamed {seed}"))),
        broken={number: kinds[(first_kind + at) % len(kinds)] for at, number in enumerate(broken)},
    )


def share_of(share: float, total: int, random: Random) -> int:
    """How many of `total` a share means: rounded by chance, so that small shares of small files add up."""
    return int(share * total + random.random())


def deliver(files: Iterable[tuple[GeneratedObject, str]], plan: FilePlan, random: Random) -> Iterator[GeneratedObject]:
    """The files, each with the name of a copy of it, in the order of sending: late ones later, some of them again."""
    waiting: list[tuple[float, int, GeneratedObject]] = []
    entry, arrival = count(), count()
    for number, (file, copy_name) in enumerate(files):
        # A file is sent at its own number; halves keep what is delayed strictly between two files.
        sent_at = number + (random.randint(1, 5) + 0.5 if number in plan.late else 0)
        sendings = [(sent_at, file)]
        if number in plan.again:
            sendings.append((sent_at + random.randint(0, 5) + 0.5, file))
        if number in plan.renamed:
            sendings.append((sent_at + random.randint(0, 5) + 0.5, replace(file, name=copy_name)))
        for at, sending in sendings:
            heapq.heappush(waiting, (at, next(entry), sending))
        while waiting and waiting[0][0] <= number:
            yield replace(heapq.heappop(waiting)[2], arrival=next(arrival))
    while waiting:
        yield replace(heapq.heappop(waiting)[2], arrival=next(arrival))


# --- bodies -----------------------------------------------------------------------------------------------------------

FILE_KINDS = ("missing_key_column", "no_bytes", "header_only", "cut_gzip")
_ROW_KINDS = ("too_few_fields", "too_many_fields", "blank_key", "not_utf8", "repeated_header", "open_quote")


@dataclass(frozen=True)
class Names:
    """What a feed's files call the columns by which a row can break. The key is there, and is not the last."""

    key: str = "customer_id"
    time: str = "updated_at"
    op: str = "op"


_NAMES = Names()


def csv_body(header: list[str], rows: list[list[str]]) -> bytes:
    """A sound CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def with_broken_rows(
    header: list[str], rows: list[list[str]], share: float, random: Random, names: Names = _NAMES
) -> tuple[bytes, dict[int, str]]:
    """A CSV file in which some rows are broken, and the reason for each of them by ordinal.

    The line after an open quote stays sound: a reader that has lost its place finds it again there.
    """
    kinds = [*_ROW_KINDS]
    kinds += ["unreadable_time"] if names.time in header else []
    kinds += ["unknown_op"] if names.op in header else []
    broken: dict[int, str] = {}
    for at in sorted(random.sample(range(len(rows)), share_of(share, len(rows), random))):
        if broken.get(at - 1) != "open_quote":
            broken[at] = random.choice(kinds)
    body = io.BytesIO()
    body.write(csv_body(header, []))
    start = 0
    for at, kind in broken.items():
        body.write(_lines(rows[start:at]))
        body.write(_broken_line(kind, header, rows[at], random, names))
        start = at + 1
    body.write(_lines(rows[start:]))
    return body.getvalue(), {at + 1: kind for at, kind in broken.items()}


def broken_file(
    kind: str, file: GeneratedObject, header: list[str], rows: list[list[str]], names: Names = _NAMES
) -> GeneratedObject:
    """The file of these rows as it lands when something befell all of it."""
    if kind == "no_bytes":
        return replace(file, body=b"")
    if kind == "header_only":
        return replace(file, body=csv_body(header, []))
    if kind == "cut_gzip":
        packed = gzip.compress(csv_body(header, rows), mtime=0)
        return replace(file, name=f"{file.name}.gz", body=packed[: len(packed) * 2 // 3], unreadable=True)
    if kind == "missing_key_column":
        key = header.index(names.key)
        keyless, *others = [[*row[:key], *row[key + 1 :]] for row in (header, *rows)]
        body = csv_body(keyless, others)
        return replace(file, body=body, refused=dict.fromkeys(range(1, len(rows) + 1), kind))
    raise ValueError(f"no file breaks by {kind!r}; there are: {', '.join(FILE_KINDS)}")


def _lines(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _broken_line(kind: str, header: list[str], row: list[str], random: Random, names: Names) -> bytes:
    at = header.index(names.key)
    before, (key, first, *rest) = row[:at], row[at:]
    if kind == "too_few_fields":
        return _lines([row[:-1]])
    if kind == "too_many_fields":
        return _lines([[*row, "surplus"]])
    if kind == "blank_key":
        return _lines([[*before, random.choice(("", "  ", "\t")), first, *rest]])
    if kind == "not_utf8":
        return _lines([[*before, key, f"{first}#", *rest]]).replace(b"#", "é".encode("latin-1"), 1)
    if kind == "repeated_header":
        return _lines([random.choice((header, [name.upper() for name in header]))])
    if kind == "open_quote":
        plain = [text.replace(",", " ").replace('"', "") for text in rest]
        return ",".join([*before, key, f'"{first}', *plain]).encode() + b"\n"
    broken = dict(zip(header, row, strict=True))
    if kind == "unreadable_time":
        broken[names.time] = random.choice(("", "yesterday", "2026-02-30 12:00:00"))
    elif kind == "unknown_op":
        broken[names.op] = random.choice(("X", "upsert"))
    else:
        raise ValueError(f"no row breaks by {kind!r}")
    return _lines([list(broken.values())])


def some_of(numbers: Sequence[int], share: float, random: Random) -> list[int]:
    """A share of the numbers, in order; at least one where the share is not 0."""
    wanted = min(len(numbers), max(1, round(share * len(numbers)))) if share else 0
    return sorted(random.sample(numbers, wanted))
