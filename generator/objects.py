"""What every generator is asked for, a run, and yields: objects as they land, and what has to become of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import isfinite


@dataclass(frozen=True)
class Run:
    """How long a source runs: one file per `interval` seconds over `days`, from `start` (naive UTC)."""

    days: float = 1.0
    interval: int = 3600
    seed: int = 0
    start: datetime = datetime(2026, 1, 1)

    def __post_init__(self) -> None:
        self.at_least_one("interval")
        if not isfinite(self.days) or self.files < 1:
            raise ValueError(f"{self.days:g} days hold no file at an interval of {self.interval} s: take more days")
        if self.start.year < 1900:
            raise ValueError(f"start is {self.start}: take a year from 1900 on")
        try:
            self.instant(self.files)
        except OverflowError:
            raise ValueError(f"{self.days:g} days from {self.start} end after the year 9999: take fewer days") from None

    def at_least_one(self, *names: str) -> None:
        """ValueError if one of these counts is none."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it has to be 1 or more")

    @property
    def files(self) -> int:
        """How many files there are, before any is sent twice."""
        return int(self.days * 86_400 / self.interval + 1e-9)  # a tenth of a day is not quite a tenth

    def instant(self, number: int) -> datetime:
        """The instant of a file, counted from 0."""
        return self.start + timedelta(seconds=number * self.interval)


@dataclass(frozen=True)
class GeneratedObject:
    """One sending of one object.

    `name` is the key below the bucket's prefix, `arrival` the place in the order of sending (from 0), `modified` the
    file's own time (naive UTC). `refused` gives the reason for each record (ordinal from 1, the header not counted)
    of which nothing must be accepted; in CSV each of them is one line. An `unreadable` object has no records at all.
    """

    name: str
    body: bytes
    arrival: int
    modified: datetime
    refused: Mapping[int, str] = field(default_factory=dict)
    unreadable: bool = False
