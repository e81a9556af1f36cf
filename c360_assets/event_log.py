"""Event log: the SQLite files in which Dagster keeps a home's runs, for a process that writes to them all the time.

Belongs here: what makes a write cheap. Dagster opens and closes a connection for each; who closes the last one to a
file moves its write-ahead log into it, which takes longer than the write.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import sqlalchemy as sa

# Files that are kept open: runs, schedules, the index, the serving store, and the logs of the last runs.
KEPT = 6


@contextmanager
def kept_open() -> Iterator[None]:
    """While the body runs, a connection that does nothing stays to each of the last few SQLite files that were opened;
    and nobody waits for the disk: where the machine crashes, not where a process does, the last writes may be gone."""
    kept: OrderedDict[str, sqlite3.Connection] = OrderedDict()
    lock = Lock()

    def opened(connection: Any, _: Any) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        connection.execute("pragma synchronous = normal")
        ((_, _, path),) = connection.execute("pragma database_list").fetchall()
        with lock:
            if path not in kept:
                kept[path] = sqlite3.connect(path, check_same_thread=False)
            # Who has read nothing has not opened the log; and a young file gets one after its first connection.
            kept[path].execute("select 1 from sqlite_master limit 1").fetchall()
            kept.move_to_end(path)
            if len(kept) > KEPT:
                kept.popitem(last=False)[1].close()

    sa.event.listen(sa.Engine, "connect", opened)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "connect", opened)
        for connection in kept.values():
            connection.close()
