"""What sends clicks as they happen, where the broker refuses some: no broker here does so to order, so one is imitated."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from generator import live
from generator.sink import SinkError


class Refusing:
    """A producer whose broker refuses the first `refusals` events, and answers when it is asked."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.arrived = refusals, list[tuple[bytes, bytes]]()
        self._waiting: list[tuple[bytes, bytes, Callable[[Any, Any], None]]] = []

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Callable[[Any, Any], None]) -> None:
        self._waiting.append((value, key, on_delivery))

    def poll(self, seconds: float) -> None:
        waiting, self._waiting = self._waiting, []
        for value, key, told in waiting:
            self.refusals -= 1
            if self.refusals < 0:
                self.arrived.append((value, key))
            message = SimpleNamespace(value=lambda value=value: value, key=lambda key=key: key)
            told("broker is gone" if self.refusals >= 0 else None, message)

    def flush(self, seconds: float) -> int:
        self.poll(0)
        return 0


def outlet(monkeypatch: pytest.MonkeyPatch, refusals: int) -> tuple[live.Outlet, Refusing]:
    producer = Refusing(refusals)
    monkeypatch.setattr(live, "import_module", lambda name: SimpleNamespace(Producer=lambda settings: producer))
    return live.open_outlet("kafka://broker:9092/clicks"), producer


def test_what_a_broker_refuses_is_sent_again_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka, producer = outlet(monkeypatch, 3)
    kafka.put([b"1", b"2"], [b"a", b"b"])
    kafka.put([b"3"], [b"c"])
    kafka.close()
    assert sorted(producer.arrived) == [(b"1", b"a"), (b"2", b"b"), (b"3", b"c")]


def test_a_broker_that_refuses_to_the_end_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_CLOSING", 1.0)
    kafka, _ = outlet(monkeypatch, 10**6)
    kafka.put([b"1"], [b"a"])
    with pytest.raises(SinkError, match="1 events did not arrive at the broker: broker is gone"):
        kafka.close()
