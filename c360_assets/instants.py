"""Instants as the warehouse, the registers and the ledgers keep them: UTC without zone.

Belongs here: the clock's instant, one that has a zone, one that is written. Knows nothing else of ours.
"""

from datetime import UTC, datetime


def now() -> datetime:
    """What the clock says."""
    return datetime.now(UTC).replace(tzinfo=None)


def utc(instant: datetime) -> datetime:
    """The same instant; one without a zone is UTC already."""
    return instant.astimezone(UTC).replace(tzinfo=None) if instant.tzinfo else instant


def read(text: str) -> datetime:
    """What an ISO 8601 text says; without a zone it means UTC. ValueError where it says no instant."""
    return utc(datetime.fromisoformat(text))


def hour(instant: datetime, minute: int = 0) -> int:
    """Which hour it is in, counted since 1970, where hours begin so many minutes past."""
    return int((utc(instant).replace(tzinfo=UTC).timestamp() - minute * 60) // 3600)
