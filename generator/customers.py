"""Customer files as a source system would write them: inserts first, then people who move, marry and change address.

Every file is named by its instant. With deletes the files carry the column `op`; with ties about half of them carry
`updated_at`, so that rows have times of their own. Equal specs give equal bytes (as long as faker is the same).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from generator.faults import FILE_KINDS, Faults, broken_file, csv_body, deliver, plan_files, share_of, with_broken_rows
from generator.objects import GeneratedObject, Run
from generator.people import COLUMNS, EMAIL, People

HEADER = ("customer_id", *COLUMNS)
OP = len(HEADER)  # the place of `op`, where there is one
UNCHANGED = 0.1
"""The share of known customers in a file of whom nothing changed."""

_TIME_FORMATS: tuple[Callable[[datetime], str], ...] = (
    lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z",
    lambda moment: f"{moment:%Y-%m-%d %H:%M:%S.%f}",
    lambda moment: f"{moment + timedelta(hours=2):%Y-%m-%dT%H:%M:%S.%f}+02:00",
    lambda moment: f"{moment - timedelta(hours=3, minutes=30):%Y-%m-%d %H:%M:%S.%f}789-03:30",  # in nanoseconds
)


@dataclass(frozen=True)
class CustomerSpec(Run):
    """A run of which each file is about one customer a row.

    A file has fewer than `rows_per_file` rows while there are fewer customers, and more where faults add some.
    """

    customers: int = 10_000
    rows_per_file: int = 1_000
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least_one("customers", "rows_per_file")


def generate(spec: CustomerSpec) -> Iterator[GeneratedObject]:
    """The objects of a run in the order of sending, each with what has to become of it."""
    plan = plan_files(spec.faults, spec.files, spec.seed, spec.faults.broken_files, FILE_KINDS)
    half = Random(f"timed {spec.seed}").sample(range(spec.files), (spec.files + 1) // 2)
    timed = frozenset(half) if spec.faults.ties else frozenset()

    def files() -> Iterator[tuple[GeneratedObject, str]]:
        source = _Source(spec)
        random = Random(f"broken rows {spec.seed}")
        for number in range(spec.files):
            header, rows = source.sheet(number, timed=number in timed)
            instant = spec.instant(number)
            # A row that has its own time is the same row under whatever instant; any other takes the name's.
            copied = instant + timedelta(seconds=spec.interval / 2) if number in timed else instant
            file = GeneratedObject(_name(instant), b"", number, instant)
            if number in plan.broken:
                file = broken_file(plan.broken[number], file, header, rows)
            elif spec.faults.broken_rows:
                body, refused = with_broken_rows(header, rows, spec.faults.broken_rows, random)
                file = replace(file, body=body, refused=refused)
            else:
                file = replace(file, body=csv_body(header, rows))
            yield file, _name(copied, "_copy")

    return deliver(files(), plan, Random(f"delivery {spec.seed}"))


def _name(instant: datetime, suffix: str = "") -> str:
    return f"customers/customer_{instant:%Y%m%d%H%M%S}{suffix}.csv"


class _Source:
    """The source system: who its customers are, and what it writes about them file by file."""

    def __init__(self, spec: CustomerSpec) -> None:
        self.spec = spec
        self.people = People(spec.seed)
        self.random = Random(f"source {spec.seed}")
        self.persons: list[list[str]] = []  # by customer number, also those who are gone
        self.present: list[int] = []
        self.away: list[int] = []  # deleted, to come back

    def sheet(self, number: int, *, timed: bool) -> tuple[list[str], list[list[str]]]:
        """The header and the sound rows of a file."""
        spec, faults = self.spec, self.spec.faults
        known = len(self.present)
        rows = [*self._newcomers(number)]
        rows += self._returners(spec.rows_per_file - len(rows))
        rows += self._known(known, spec.rows_per_file - len(rows))
        header = [*HEADER]
        if faults.deletes:
            header.append("op")
        else:
            rows = [row[:-1] for row in rows]
        if timed:
            header.append("updated_at")
            self._date(rows, spec.instant(number))
            self._contradict(rows)
        for _ in range(share_of(faults.duplicate_rows, len(rows), self.random)):
            rows.insert(self.random.randint(0, len(rows)), self.random.choice(rows))
        return header, rows

    def _row(self, customer: int, op: str) -> list[str]:
        person = self.persons[customer]
        if self.spec.faults.nulls and self.random.random() < self.spec.faults.nulls:
            person = [*person]
            person[self.random.randrange(len(person))] = ""
        return [f"CUST_{customer + 1:05d}", *person, op]

    def _newcomers(self, number: int) -> Iterator[list[str]]:
        """As many as a file takes in the first file, then evenly, so that all are known at the end if they fit in."""
        unknown = self.spec.customers - len(self.persons)
        files_left = self.spec.files - number
        wanted = unknown if number == 0 else -(-unknown // files_left)
        for _ in range(min(wanted, self.spec.rows_per_file)):
            customer = len(self.persons)
            self.persons.append(self.people.person())
            self.present.append(customer)
            yield self._row(customer, "I")

    def _returners(self, room: int) -> Iterator[list[str]]:
        still_away = []
        for customer in self.away:
            if room > 0 and self.random.random() < 0.5:
                room -= 1
                self.present.append(customer)
                if self.random.random() < 0.5:
                    self.people.change(self.persons[customer])
                yield self._row(customer, "I")
            else:
                still_away.append(customer)
        self.away = still_away

    def _known(self, known: int, room: int) -> Iterator[list[str]]:
        """Rows about some of those who were there before this file: the first `known` of `present`."""
        faults, random = self.spec.faults, self.random.random
        leaving: list[int] = []
        for place in self.random.sample(range(known), min(room, known)):
            customer = self.present[place]
            if faults.deletes and random() < faults.deletes:
                leaving.append(place)
                if random() < faults.reinserts:
                    self.away.append(customer)
                row = self._row(customer, "D")
                yield row if random() < 0.5 else [row[0], *[""] * len(COLUMNS), "D"]
                continue
            if random() >= UNCHANGED:
                self.people.change(self.persons[customer])
            yield self._row(customer, "U")
        for place in sorted(leaving, reverse=True):
            self.present[place] = self.present[-1]
            self.present.pop()

    def _date(self, rows: list[list[str]], instant: datetime) -> None:
        """Gives each row a time of its own between the file before and this one."""
        written = self.random.choice(_TIME_FORMATS)
        span = self.spec.interval * 1_000_000
        for row in rows:
            row.append(written(instant - timedelta(microseconds=1 + int(self.random.random() * (span - 1)))))

    def _contradict(self, rows: list[list[str]]) -> None:
        """Adds rows of the same customer and time that say something else, now and then that there is nobody."""
        for row in self.random.sample(rows, share_of(self.spec.faults.ties, len(rows), self.random)):
            other = [*row]
            if self.spec.faults.deletes and (row[OP] == "D" or self.random.random() < 0.3):
                other[OP] = "U" if row[OP] == "D" else "D"
            else:
                other[1 + EMAIL] = f"other.{row[1 + EMAIL]}"
            rows.insert(self.random.randint(0, len(rows)), other)
