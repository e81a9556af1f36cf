"""Run by bench.history_peers in the environment of the peers: `python peer_sqlmesh.py FOLDER BATCH.parquet ...`

One warm context runs the project in FOLDER on each batch in turn. On stdout, as JSON, a batch each: `wall`, seconds of the
run; `statements`, seconds of SQL on the history and of commits.
"""

import json
import sys
import time
from typing import Any

from sqlmesh import Context
from sqlmesh.core.console import NoopConsole, set_console
from sqlmesh.core.engine_adapter.base import EngineAdapter
from sqlmesh.utils import connection_pool

spent = 0.0


def watch(owner: Any, name: str, counts: Any) -> None:
    """Adds the time of a method to `spent` where its argument is one that counts."""
    method = getattr(owner, name)

    def timed(self: Any, *arguments: Any, **named: Any) -> Any:
        global spent
        before = time.perf_counter()
        result = method(self, *arguments, **named)
        if counts(arguments):
            spent += time.perf_counter() - before
        return result

    setattr(owner, name, timed)


def main() -> None:
    global spent
    folder, *batches = sys.argv[1:]
    set_console(NoopConsole())
    context = Context(paths=[folder])
    watch(EngineAdapter, "_execute", lambda arguments: "bench__history" in str(arguments[0]))
    for pool in (connection_pool.SingletonConnectionPool, connection_pool._ThreadLocalBase):
        if "commit" in vars(pool):
            watch(pool, "commit", lambda arguments: True)
    found = []
    for batch in batches:
        adapter = context.engine_adapter
        adapter.execute(f"create or replace table bench.batch as from '{batch}'")
        adapter.execute("update sqlmesh._intervals set end_ts = start_ts + 86400000")
        adapter.execute(
            "delete from sqlmesh._intervals where start_ts > (select min(start_ts) from sqlmesh._intervals)"
        )
        spent = 0.0
        before = time.perf_counter()
        status = context.run(ignore_cron=True, skip_janitor=True)
        found.append({"wall": time.perf_counter() - before, "statements": spent})
        if not status.is_success:
            raise SystemExit(f"SQLMesh: {status}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
