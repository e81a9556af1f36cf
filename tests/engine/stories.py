"""What random streams rarely tell, told once: in two steps, after each of which the tables are to equal the oracle's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from tests.engine.mixed import Mixed
from tests.engine.streams import EPOCH, assert_equals_truth

FULL = {"o1": "x", "t1": "a", "t2": "2020-02-03"}
NOTHING = dict.fromkeys(FULL)


def tell(stage: Mixed) -> None:
    """All stories at once, over keys of their own.

    Raises:
        AssertionError: if the tables are not what the oracle says.
    """
    for _ in _shrinking(stage):
        stage.build()
        assert_equals_truth(stage.platform, stage.truth(), stage.entity, "probe")


def _shrinking(stage: Mixed) -> Iterator[None]:
    """Each file of a snapshot is judged against the one before it, until one lacks too much; a person releases that, no more."""
    stage.lay([_day(hour, keys) for hour, keys in enumerate((10, 7, 5), 1)])
    stage.lay([_day(4, 1), ("probe_changes", None, _whole()), ("probe_parts", None, _parts())])
    held = stage.laid[2 + 1]
    yield
    stage.release(held)
    yield


def _day(hour: int, keys: int) -> tuple[str, Any, list[Any]]:
    at = EPOCH + timedelta(hours=hour)
    return "probe_days", at, [_row(("day", str(n)), hour, FULL, op="") for n in range(keys)]


def _whole() -> list[Any]:
    """What the partial rows are filled from; and a delete at the instant of such a row, which it beats."""
    begun = [_row((kind, str(n)), 0, FULL) for kind in ("peers", "deleted") for n in range(8)]
    return begun + [_row(("deleted", str(n)), 1, NOTHING, op="D") for n in range(8)]


def _parts() -> list[Any]:
    """Two of one instant and no position: their content is their order, and the later one is filled from the earlier."""
    peers = [
        _row(("peers", str(n)), 1, NOTHING | said) for n in range(8) for said in ({"o1": f"y{n}"}, {"t1": f"b{n}"})
    ]
    deleted = [
        _row(("deleted", str(n)), hour, NOTHING | said)
        for n in range(8)
        for hour, said in ((1, {"o1": f"y{n}"}), (2, {"t1": f"b{n}"}))
    ]
    return peers + deleted


def _row(key: tuple[str, str], hour: int, values: dict[str, Any], op: str = "U") -> dict[str, Any]:
    at = EPOCH + timedelta(hours=hour)
    return {"key": key, "at": at, "pos": None, "op": op, "values": values, "shape": 0}
