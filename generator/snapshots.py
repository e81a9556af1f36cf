"""What snapshot feeds delete, in plain Python: the oracle of implied deletes and of the guard that holds some back.

A snapshot names every key there is, so a key that it lacks is gone. How far that goes is a function of the set of
files: no order of arrival, nothing that was known at some moment. Obviously right rather than fast.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

from generator.truth import Event, Position

Key: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """One file, one object version, of one snapshot feed; `instant` is naive UTC.

    `present`: the keys of its rows, also of quarantined ones. Not `complete`: the object could not be read as a whole,
    or a refused row of it has no readable key, so that what it lacks tells nothing. `released`: a person lets its
    deletes pass, whatever the guard says. `truncate`: the table was emptied by command, which no guard judges, at a
    `position` if the source states one.
    """

    instant: datetime
    present: frozenset[Key]
    complete: bool = True
    released: bool = False
    truncate: bool = False
    position: Position | None = None

    def __post_init__(self) -> None:
        if self.truncate and (self.present or not self.complete):
            raise ValueError(f"the truncate at {self.instant} has keys or is not complete: it is an empty whole")


@dataclass(frozen=True)
class Verdict:
    """Whether the deletes of a complete set count; `missing` of the `of` keys of the one it is judged against."""

    instant: datetime
    standing: bool
    missing: int
    of: int


def judged(snapshots: Iterable[Snapshot], guard: Decimal | None) -> list[Verdict]:
    """The verdict on each complete set, in order of instants; `guard` is the share that may be missing, None any.

    Each is judged against the last standing one before it: a set that was held back says nothing about the next.
    """
    verdicts = []
    before: frozenset[Key] = frozenset()
    for each in _complete_sets(snapshots):
        missing, of = len(before - each.present), len(before)
        too_many = guard is not None and missing > guard * of
        standing = each.truncate or each.released or not too_many
        verdicts.append(Verdict(each.instant, standing, missing, of))
        if standing:
            before = each.present
    return verdicts


def implied_deletes(snapshots: Iterable[Snapshot], guard: Decimal | None) -> list[Event]:
    """What the standing sets delete: each key that any file of an earlier instant had, and that the set lacks.

    A key that only later files have is left alone: another feed may have it. A truncate deletes what is of its very
    instant, too; the order of events decides which of the two holds.
    """
    files = list(snapshots)
    deletes: dict[tuple[datetime, Key], Position | None] = {}
    for each, verdict in zip(_complete_sets(files), judged(files, guard), strict=True):
        if verdict.standing:
            had = {
                key
                for file in files
                if file.instant < each.instant or (each.truncate and file.instant == each.instant)
                for key in file.present
            }
            deletes |= {(each.instant, key): each.position for key in had - each.present}
    return [Event(key, instant, "delete", position=deletes[instant, key]) for instant, key in sorted(deletes)]


def _complete_sets(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """The files of each instant as one, where all of them are complete, in order of instants.

    A truncate is a set of its own, at the greatest position that is stated of those of its instant.
    """
    files: dict[tuple[datetime, bool], list[Snapshot]] = defaultdict(list)
    for each in snapshots:
        files[each.instant, not each.truncate].append(each)
    return [
        Snapshot(
            instant,
            present=frozenset().union(*(file.present for file in files[instant, written])),
            released=any(file.released for file in files[instant, written]),
            truncate=not written,
            position=max((p for file in files[instant, written] if (p := file.position) is not None), default=None),
        )
        for instant, written in sorted(files)
        if all(file.complete for file in files[instant, written])
    ]
