"""What every generator yields: an object as it lands, and what has to become of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class GeneratedObject:
    """One sending of one object.

    `name` is the key below the bucket's prefix, `arrival` the place in the order of sending (from 0), `modified` the
    file's own time (naive UTC). `refused` gives the reason for each record (ordinal from 1, the header not counted)
    that must not be accepted; each of them is one line of the body. An `unreadable` object has no records at all.
    """

    name: str
    body: bytes
    arrival: int
    modified: datetime
    refused: Mapping[int, str] = field(default_factory=dict)
    unreadable: bool = False
