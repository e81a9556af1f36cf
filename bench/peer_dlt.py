"""Run by bench.history_peers in the environment of the peers: `python peer_dlt.py FOLDER BATCH.parquet ...`

One process loads each batch in turn into `peers.history` of FOLDER/peer.duckdb, which is kept open meanwhile. On stdout, as
JSON, a batch each: `wall`, seconds of the run; `statements`, seconds of SQL and commits.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}

import dlt
import duckdb
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

spent = 0.0
query = DuckDbSqlClient.execute_query
commit = DuckDbSqlClient.commit_transaction


@contextmanager
def timed_query(self: Any, *arguments: Any, **named: Any) -> Iterator[Any]:
    global spent
    before = time.perf_counter()
    with query(self, *arguments, **named) as result:
        spent += time.perf_counter() - before
        yield result


def timed_commit(self: Any) -> None:
    global spent
    before = time.perf_counter()
    commit(self)
    spent += time.perf_counter() - before


def main() -> None:
    global spent
    DuckDbSqlClient.execute_query = timed_query
    DuckDbSqlClient.commit_transaction = timed_commit
    folder, *batches = sys.argv[1:]
    database = str(Path(folder) / "peer.duckdb")
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.duckdb(database),
        dataset_name="peers",
        pipelines_dir=f"{folder}/pipelines",
    )
    found = []
    with duckdb.connect(database) as connection:
        connection.execute("set global checkpoint_threshold = '256MB'")
        connection.execute("set TimeZone = 'UTC'")
        for batch in batches:
            rows = connection.execute(
                f"select * exclude (content, event_time), md5(customer_id || op || content) as row_version from '{batch}'"
            ).to_arrow_table()
            (last,) = connection.execute(f"select max(event_time) from '{batch}'").fetchone() or (None,)
            how = {
                "disposition": "merge", "strategy": "scd2", "row_version_column_name": "row_version",
                "validity_column_names": ["valid_from", "valid_to"], "boundary_timestamp": f"{last.isoformat()}+00:00",
            }  # fmt: skip
            spent = 0.0
            before = time.perf_counter()
            pipeline.run(dlt.resource([rows], name="history", write_disposition=how, merge_key="customer_id"))
            found.append({"wall": time.perf_counter() - before, "statements": spent})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
