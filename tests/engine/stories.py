"""What random streams rarely tell, told once: in two steps, after each of which the tables are to equal the oracle's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.engine.mixed import Laid, Mixed
from tests.engine.streams import EPOCH, assert_equals_truth

FULL = {"o1": "x", "t1": "a", "t2": "2020-02-03"}
NOTHING = dict.fromkeys(FULL)


def tell(stage: Mixed) -> None:
    """All stories at once, over keys of their own.

    Raises:
        AssertionError: if the tables are not what the oracle says.
    """
    held, unreadable = _begin(stage)
    _hold(stage)
    stage.release(held)
    stage.dismiss(unreadable)
    _hold(stage)


def _hold(stage: Mixed) -> None:
    stage.build()
    assert_equals_truth(stage.platform, stage.truth(), stage.entity, "probe")


def _begin(stage: Mixed) -> tuple[Laid, Laid]:
    """Files of a snapshot, of which each is judged against the one before it that stands; rows of other feeds beside them.

    Returns the file that lacks too much, and a part that cannot be read of one that lacks something.
    """
    stage.lay([_day(hour, keys) for hour, keys in enumerate((10, 7, 5), 1)])
    stage.lay([_day(4, 1), ("probe_changes", None, _whole()), ("probe_parts", None, _parts())])
    held = stage.laid[3]
    stage.lay([_day(5, 10), _day(6, 8), _day(7, 6)])
    unreadable = stage.lay_part(EPOCH + timedelta(hours=6), "unreadable")
    stage.lay_part(EPOCH + timedelta(hours=7), "empty")
    return held, unreadable


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
