"""fakesnow as a server of its own, with one fault of it mended: `python -m tests.emulator PORT`.

It sends a null time among others as two numbers that are missing, and not as a time that is: the connector, which looks at
the time alone, makes 1970 of it. Snowflake sends it as the connector expects.
"""

from __future__ import annotations

import atexit
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from c360_assets.settings import PROJECT


def on_fakesnow(port: int) -> dict[str, str]:
    """The environment that reaches a database of the test's own on the server."""
    return {
        "C360_WAREHOUSE": "snowflake",
        "SNOWFLAKE_ACCOUNT": "fakesnow",
        "SNOWFLAKE_USER": "fake",
        "SNOWFLAKE_PASSWORD": "snow",
        "SNOWFLAKE_WAREHOUSE": "wh",
        "SNOWFLAKE_DATABASE": f"T{uuid.uuid4().hex[:8].upper()}",
        "SNOWFLAKE_HOST": "localhost",
        "SNOWFLAKE_PORT": str(port),
        "SNOWFLAKE_PROTOCOL": "http",
    }


@contextmanager
def fakesnow_server() -> Iterator[int]:
    """A fakesnow server, of which all sessions share one database in memory; its port."""
    # Imported here: the server itself needs nothing of ours.
    from c360_assets.local import free_port

    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.emulator", str(port)],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port)
        yield port
    finally:
        # It keeps nothing, and may be busy with a statement that nobody waits for.
        process.kill()
        process.wait(10)


def _await(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("fakesnow did not start")


@cache
def fakesnow_of_process() -> int:
    """The port of the one server that the tests of this process share."""
    running = ExitStack()
    atexit.register(running.close)
    return running.enter_context(fakesnow_server())


def main() -> None:
    import pyarrow as pa
    from fakesnow import arrow, cli

    sent = arrow.timestamp_to_sf_struct

    def sent_with_nulls(times: pa.ChunkedArray) -> pa.StructArray:
        pairs = sent(times)
        parts = [pairs.field(number) for number in range(pairs.type.num_fields)]
        return pa.StructArray.from_arrays(parts, fields=list(pairs.type), mask=times.combine_chunks().is_null())

    arrow.timestamp_to_sf_struct = sent_with_nulls
    sys.exit(cli.main(["-s", "-p", sys.argv[1]]))


if __name__ == "__main__":
    main()
