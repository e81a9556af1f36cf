"""A database of customers and every change that is made to it, for the feeds that tell of changes: Debezium, AWS DMS.

Belongs here: who is there, who changes when, in which transaction, and the faults that both feeds can have. How a
change is written stands in `debezium` and `dms`. Equal specs give equal changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random
from typing import Literal, TypeAlias

from generator.faults import FileFaults, check_share
from generator.objects import Run
from generator.people import COLUMNS as OF_PEOPLE
from generator.people import People

Row: TypeAlias = dict[str, str | None]
Op: TypeAlias = Literal["insert", "update", "delete"]

COLUMNS = ("customer_id", *OF_PEOPLE, "phone", "signup_date", "customer_segment")
SEGMENTS = ("retail", "business", "vip")
LOADED = 0.8
"""The share of all customers who are there before the first change."""
UNCHANGED = 0.05
"""The share of updates that change nothing."""
_FIRST_SIGNUP = date(1965, 1, 1)  # taken over from paper: days since 1970 are negative then


@dataclass(frozen=True)
class ChangeFaults(FileFaults):
    """The share, from 0 to 1, of the files or rows that each fault befalls. Of files at least one, if there can be."""

    broken_files: float = field(default=0.0, metadata={"help": "files of 0 bytes, cut gzip, or CSV without its key"})
    broken_rows: float = field(
        default=0.0, metadata={"help": "rows that cannot be read, or lack key, time or operation"}
    )
    redelivered: float = field(default=0.0, metadata={"help": "changes that come again in the file after theirs"})
    nulls: float = field(default=0.0, metadata={"help": "rows with an empty field"})


@dataclass(frozen=True)
class ChangeSpec(Run):
    """A run that begins with a full load; each file after it has about `rows_per_file` changes, and more with faults.

    `deletes` is a share of the changes. Whoever was deleted may come back.
    """

    customers: int = 10_000
    rows_per_file: int = 1_000
    deletes: float = 0.05
    faults: ChangeFaults = field(default_factory=ChangeFaults)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least_one("customers", "rows_per_file")
        check_share("deletes", self.deletes)
        if self.rows_per_file > 500_000:
            raise ValueError(f"rows_per_file is {self.rows_per_file}: a second has no room for more than 500000")

    @property
    def loaded(self) -> int:
        """How many customers the full load has."""
        return max(1, int(self.customers * LOADED))

    @property
    def load_files(self) -> int:
        """Over how many files the full load goes; they come before those of the changes."""
        return -(-self.loaded // self.rows_per_file)


@dataclass(frozen=True)
class Change:
    """One change of one row, committed at `at` (naive UTC, microseconds). `before` and `after` as the row stood then.

    `transaction` counts from 1; `statement_row` is the row's place among those of one statement, from 0.
    """

    op: Op
    customer: int
    before: Row | None
    after: Row | None
    at: datetime
    transaction: int
    statement_row: int


class Database:
    """The customers, and what is done to them file by file. Ask for the load first, then for each file in turn.

    Where `again` is set, a transaction may change the same customer twice, which only a position can tell apart.
    """

    def __init__(self, spec: ChangeSpec, *, again: bool) -> None:
        self.spec = spec
        self.again = again
        self.people = People(spec.seed)
        self.random = Random(f"changes {spec.seed}")
        self.persons: list[list[str]] = []  # by customer number, also those who are gone
        self.extras: list[tuple[str, str, str]] = []  # phone, signup date, segment
        self.rows: dict[int, Row] = {}  # of those who are there, as last stated
        self.away: list[int] = []  # deleted: they may come back
        self.transactions = 0
        self.changes_left = spec.files * spec.rows_per_file

    def load(self) -> list[Row]:
        """Everybody who is there before the first change."""
        return [self._insert(self._newcomer()) for _ in range(self.spec.loaded)]

    def truncate(self) -> None:
        """Nobody is there any more; all may come back."""
        self.changes_left -= self.spec.rows_per_file  # it takes the place of a file's changes
        self.transactions += 1
        self.away += self.rows
        self.rows.clear()

    def changes(self, number: int) -> list[Change]:
        """The changes of a file in the order in which they were made, at least one."""
        sizes: list[int] = []
        while (room := self.spec.rows_per_file - sum(sizes)) > 0:
            sizes.append(min(room, self.random.choice((1, 1, 2, 3))))
        microseconds = sorted(self.random.sample(range(self.spec.interval * 1_000_000), len(sizes)))
        made: list[Change] = []
        for size, at in zip(sizes, microseconds, strict=True):
            made += self._transaction(self.spec.instant(number) + timedelta(microseconds=at), size)
        return made

    def _transaction(self, at: datetime, size: int) -> Iterator[Change]:
        self.transactions += 1
        touched: list[int] = []
        last: Change | None = None
        for _ in range(size):
            customer = self._next(touched)
            self.changes_left -= 1
            if customer is None:
                continue
            before, op = self._change(customer)
            same_statement = last and last.op == op and customer not in touched and self.random.random() < 0.5
            last = Change(
                op=op,
                customer=customer,
                before=before,
                after=self.rows.get(customer),
                at=at,
                transaction=self.transactions,
                statement_row=last.statement_row + 1 if last and same_statement else 0,
            )
            touched.append(customer)
            yield last

    def _next(self, touched: list[int]) -> int | None:
        """Whom the next change of a transaction is about, None if nobody is left whom it has not changed yet."""
        random = self.random
        unknown = self.spec.customers - len(self.persons)
        if unknown and random.random() * self.changes_left < unknown:  # so that all are known at the end
            return self._newcomer()
        if self.again and touched and random.random() < 0.3:
            if touched[-1] not in self.rows:
                self.away.remove(touched[-1])
            return touched[-1]
        if self.away and (random.random() < self.spec.deletes / 2 or len(self.rows) < self.spec.loaded / 2):
            place = random.randrange(len(self.away))
            if self.away[place] not in touched:
                self.away[place], self.away[-1] = self.away[-1], self.away[place]
                return self.away.pop()
        for _ in range(20):
            customer = random.randrange(len(self.persons))
            if customer in self.rows and customer not in touched:
                return customer
        return next((customer for customer in self.rows if customer not in touched), None)

    def _newcomer(self) -> int:
        days = (self.spec.start.date() - _FIRST_SIGNUP).days
        signup = _FIRST_SIGNUP + timedelta(days=self.random.randrange(days)) if days > 0 else _FIRST_SIGNUP
        self.persons.append(self.people.person())
        self.extras.append((self._phone(), signup.isoformat(), self.random.choice(SEGMENTS)))
        return len(self.persons) - 1

    def _change(self, customer: int) -> tuple[Row | None, Op]:
        """Does something to the customer: who is not there is inserted, and of the others a few go."""
        before = self.rows.get(customer)
        if before is None:
            if self.random.random() < 0.5:
                self._live(customer)
            self._insert(customer)
            return None, "insert"
        if self.random.random() < self.spec.deletes:
            del self.rows[customer]
            self.away.append(customer)
            return before, "delete"
        if self.random.random() >= UNCHANGED:
            self._live(customer)
        self._insert(customer)
        return before, "update"

    def _live(self, customer: int) -> None:
        """Something happens to the person or to what is noted of them."""
        phone, signup, segment = self.extras[customer]
        drawn = self.random.random()
        if drawn < 0.8:
            self.people.change(self.persons[customer])
        elif drawn < 0.9:
            self.extras[customer] = self._phone(), signup, segment
        else:
            other = [each for each in SEGMENTS if each != segment]
            self.extras[customer] = phone, signup, self.random.choice(other)

    def _insert(self, customer: int) -> Row:
        """Puts the customer's row as it is now."""
        values = (f"CUST_{customer + 1:05d}", *self.persons[customer], *self.extras[customer])
        row: Row = dict(zip(COLUMNS, values, strict=True))
        if self.spec.faults.nulls and self.random.random() < self.spec.faults.nulls:
            row[self.random.choice(COLUMNS[1:])] = None
        self.rows[customer] = row
        return row

    def _phone(self) -> str:
        return f"+{self.random.randint(1, 99)} {self.random.randint(100, 999)} {self.random.randint(0, 9_999_999):07d}"
