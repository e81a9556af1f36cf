"""A real broker, in memory; each test has a topic of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import Producer

from c360_assets.feeds import Feed, load_feeds
from c360_assets.settings import PROJECT
from c360_assets.streams import broker
from tests.parts import free_port

Produce = Callable[..., None]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with broker.running(free_port(), tmp_path_factory.mktemp("broker") / "log") as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def feeds() -> dict[str, Feed]:
    return load_feeds([PROJECT / "dbt" / "models" / "staging"])


@pytest.fixture
def topic(kafka: str) -> str:
    """A topic of three partitions."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    broker.ensure_topic(kafka, name, 3)
    return name


@pytest.fixture
def produce(kafka: str, topic: str) -> Produce:
    """Sends values to the topic; returns when the broker has them all."""

    def send(values: Sequence[bytes | None], partition: int | None = None) -> None:
        producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5, "enable.idempotence": False})
        for number, value in enumerate(values):
            while True:
                try:
                    producer.produce(topic, value, partition=number % 3 if partition is None else partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(30) == 0

    return send
