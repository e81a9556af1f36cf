"""Warm: dbt in this process, for who stays and builds the same tables again and again.

Belongs here: running dbt without starting it, and doing without it. While it builds, models tell their statements
(dbt/macros/alone.sql); with those of everything that is asked for, and the compiled tests, the next build needs no dbt.
Where anything is not as it was told (a test of severity error that fails, a table that is gone, a model that was not
told), dbt builds it all the same, and says what there is to say: every model marks what it has taken, so nothing is
taken twice.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from c360_assets.settings import ProjectError
from c360_assets.transform import environment
from c360_assets.warehouse import Session, Warehouse

_TOLD = "alone: "
TELL = "C360_TELL_ALONE"


@dataclass(frozen=True)
class Built:
    """What became of one node. `failures`: rows that a test found; `rows`: those of them that are shown, with names."""

    unique_id: str
    status: str
    message: str = ""
    failures: int = 0
    shown: tuple[list[str], list[tuple[Any, ...]]] | None = None


class NotAsTold(RuntimeError):
    """dbt has to see to it."""


class WarmDbt:
    """dbt on one project and warehouse, its manifest read once."""

    def __init__(self, project: Path, target_path: Path, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._places = [
            "--project-dir", str(project), "--profiles-dir", str(project), "--target", warehouse.target,
            "--target-path", str(target_path), "--log-path", str(target_path), "--log-level-file", "none",
        ]  # fmt: skip
        parsed: Any = dbtRunner().invoke(["--quiet", "parse", *self._places])
        if not parsed.success:
            raise ProjectError(f"the dbt project {project} cannot be read: {parsed.exception}")
        self._manifest = parsed.result
        self._ids = {
            node.name: unique_id
            for unique_id, node in self._manifest.nodes.items()
            if node.resource_type in ("model", "test")
        }
        self._told: dict[str, Mapping[str, Any]] = {}
        self._tests: dict[str, Any] = {}
        self._orders: dict[frozenset[str], list[str]] = {}
        self.at: dict[str, datetime] = {}

    def knows(self, names: Collection[str]) -> bool:
        """Can it build these without dbt?"""
        return frozenset(names) in self._orders

    def schema_of(self, unique_id: str) -> str:
        return str(self._manifest.nodes[unique_id].schema)

    def build(self, names: Collection[str], shown: int) -> list[Built]:
        """Builds and tests the named nodes and no others, in their order. `at` then says when each was committed."""
        self.at = {}
        order = self._orders.get(frozenset(names))
        if order is not None:
            try:
                with self._warehouse.writing("building") as session:
                    return [self._take(session, unique_id, shown) for unique_id in order]
            except (NotAsTold, duckdb.Error):
                del self._orders[frozenset(names)]
        return self._by_dbt(names)

    def _take(self, session: Session, unique_id: str, shown: int) -> Built:
        node = self._manifest.nodes[unique_id]
        if node.resource_type == "test":
            return self._test(session, unique_id, shown)
        if (told := self._told.get(unique_id)) is not None:
            _run(session, told)
        self.at[unique_id] = datetime.now(UTC).replace(tzinfo=None)
        return Built(unique_id, "success")

    def _test(self, session: Session, unique_id: str, shown: int) -> Built:
        node = self._tests[unique_id]
        names, rows = session.result(f"select * from ({node.compiled_code}) as failing limit {shown + 1}")
        found = list(rows)
        if not found:
            return Built(unique_id, "pass")
        if node.config.severity.lower() == "error":
            raise NotAsTold(node.name)
        return Built(unique_id, "warn", failures=len(found), shown=(names, found[:shown]))

    def _by_dbt(self, names: Collection[str]) -> list[Built]:
        told: dict[str, Mapping[str, Any]] = {}

        def hear(event: Any) -> None:
            text = getattr(event.data, "msg", "")
            if isinstance(text, str) and text.startswith(_TOLD):
                lap = json.loads(text.removeprefix(_TOLD))
                told[self._ids[lap["model"]]] = lap

        with environment(self._warehouse.dbt_environment() | {TELL: "1"}), self._warehouse.held("dbt build"):
            done: Any = dbtRunner(manifest=self._manifest, callbacks=[hear]).invoke(
                ["--quiet", "--no-write-json", "--cache-selected-only", "build", "--indirect-selection", "empty",
                 "--exclude-resource-type", "unit_test", "--select", *sorted(names), *self._places]
            )  # fmt: skip
            # Else this process keeps DuckDB's lock on the file.
            DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
        if done.exception is not None:
            raise ProjectError(str(done.exception))
        results = list(done.result)
        self._learn(frozenset(names), results, told)
        now = datetime.now(UTC).replace(tzinfo=None)
        self.at = {r.node.unique_id: now for r in results if r.node.resource_type == "model" and r.status == "success"}
        return [Built(r.node.unique_id, str(r.status), str(r.message or ""), int(r.failures or 0)) for r in results]

    def _learn(self, names: frozenset[str], results: Sequence[Any], told: Mapping[str, Mapping[str, Any]]) -> None:
        """What a next build of the same needs, if all of it is told now."""
        if any(r.status not in ("success", "pass", "warn") for r in results):
            return
        self._told.update(told)
        for result in results:
            if result.node.resource_type == "test":
                self._tests[result.node.unique_id] = result.node
        ready = all(
            r.node.resource_type == "test"
            or r.node.config.materialized in ("view", "companion")
            or r.node.unique_id in self._told
            for r in results
        )
        if ready:
            self._orders[names] = [r.node.unique_id for r in results]


def _run(session: Session, told: Mapping[str, Any]) -> None:
    """One model's statements in one transaction: what is read keeps its address until it is written."""
    batches, *steps = told["steps"]
    with session.transaction():
        session.execute(batches)
        if not session.rows(f"select 1 from {told['model']}__batches limit 1"):
            return
        for step in steps:
            session.execute(step)
        if each := told["each"]:
            query = f"select feed, cast(event_time as varchar) from ({each['of']}) as waiting order by feed, event_time"
            for feed, instant in session.rows(query):
                judged = each["do"].replace(":judged_feed", f"'{feed}'")
                session.execute(judged.replace(":judged_at", f"cast('{instant}' as timestamp)"))
        for step in told["then"]:
            session.execute(step)
        if told["unless"] and session.rows(told["unless"]):
            raise NotAsTold(str(told["model"]))
        for write in told["writes"]:
            session.execute(write)
