"""Warm: dbt in this process, for who stays and builds the same tables again and again.

Belongs here: running dbt without starting it, and doing without it. While it builds, models tell their statements
(dbt/macros/alone.sql); with those and the compiled tests the next build of any of them needs no dbt. Where anything is
not as it was told (a test of severity error that fails, a table that is gone, a model that was not told), dbt builds it
all the same, and says what there is to say: every model marks what it has taken, so nothing is taken twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import duckdb
from dbt.cli.main import dbtRunner

from c360_assets import instants
from c360_assets.processes import at_work
from c360_assets.settings import ProjectError
from c360_assets.transform import environment
from c360_assets.warehouse import Session, Warehouse

_TOLD = "alone: "
TELL = "C360_TELL_ALONE"
# Materializations of which nothing is to be done once they are there.
_AS_THEY_ARE = ("view", "companion")


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

    def __init__(self, project: Path, target_path: Path, warehouse: Warehouse, say: Callable[[str], None]) -> None:
        self._warehouse, self._say = warehouse, say
        self._places = [
            "--project-dir", str(project), "--profiles-dir", str(project), "--target", warehouse.target,
            "--target-path", str(target_path), "--log-path", str(target_path), "--log-level-file", "none",
        ]  # fmt: skip
        with environment(warehouse.dbt_environment()):
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
        self._ranks = _ranks(self._manifest.nodes)
        self.at: dict[str, datetime] = {}
        # Called between two nodes while nothing was written yet, again when nothing of these schemas is left to be
        # built, and while nodes are told. False where it left something that the checks before it have not seen.
        self.between: Callable[[], bool] = lambda: True
        self.between_after: Collection[str] = ()

    def learn(self) -> None:
        """Builds all models, of which most have nothing to do, and compiles all tests; then it knows everything. Where
        dbt builds all the same there is nothing to know, and only what is not there yet is built."""
        names = [(name, self._manifest.nodes[unique_id]) for name, unique_id in self._ids.items()]
        models = [(name, f"{node.schema}.{node.alias}") for name, node in names if node.resource_type == "model"]
        if not self._warehouse.does_without_dbt:
            with self._warehouse.reading() as session:
                there = session.tables()
            if missing := [name for name, table in models if table not in there]:
                self._by_dbt(missing)
            return
        self._by_dbt([name for name, _ in models])
        tests = [name for name, node in names if node.resource_type == "test"]
        self._learn(self._invoke("compile", "--select", *tests), {})

    def knows(self, names: Collection[str]) -> bool:
        """Can it build these without dbt?"""
        return self._warehouse.does_without_dbt and all(self._is_known(self._ids[name]) for name in names)

    def schema_of(self, unique_id: str) -> str:
        return str(self._manifest.nodes[unique_id].schema)

    def build(self, names: Collection[str], shown: int, look: Callable[[], object] = lambda: None) -> list[Built]:
        """Builds and tests the named nodes and no others, in their order. `at` then says when each was committed.
        Before dbt builds what was begun here comes another `look`, which raises where nothing is to be built."""
        order = sorted((self._ids[name] for name in names), key=lambda unique_id: self._ranks[unique_id])
        if self.knows(names):
            try:
                return self._take_all(order, shown)
            except (NotAsTold, duckdb.Error) as error:
                self._say(f"dbt builds {len(order)} nodes: {str(error).splitlines()[0]}")
                for unique_id in order:
                    self._told.pop(unique_id, None)
                look()
        return self._by_dbt(names)

    def _is_known(self, unique_id: str) -> bool:
        node = self._manifest.nodes[unique_id]
        if node.resource_type == "test":
            return unique_id in self._tests
        return unique_id in self._told or node.config.materialized in _AS_THEY_ARE

    def _take_all(self, order: Sequence[str], shown: int) -> list[Built]:
        at: dict[str, datetime] = {}
        with self._warehouse.writing("building") as session:
            there = session.tables()
        for unique_id in order:
            node = self._manifest.nodes[unique_id]
            if node.resource_type == "model" and f"{node.schema}.{node.alias}" not in there:
                raise NotAsTold(f"{node.schema}.{node.alias} is gone")
        last = max((n for n, each in enumerate(order) if self.schema_of(each) in self.between_after), default=-1)
        built, has_written = [], False
        for number, unique_id in enumerate(order):
            # While a batch is half way through these schemas, what gates a lap would not add up.
            if (number > last or not has_written) and not self.between():
                raise NotAsTold("what came in between was not sound")
            node = self._manifest.nodes[unique_id]
            # A session for each: what is done in between may have closed the connection.
            with self._warehouse.writing("building") as session:
                if node.resource_type == "test":
                    built.append(self._test(session, unique_id, shown))
                    continue
                if unique_id in self._told:
                    has_written |= _run(session, self._told[unique_id]) > 0
                elif node.config.materialized not in _AS_THEY_ARE:
                    # A lap in between met something odd, and dbt left the model out.
                    raise NotAsTold(f"{node.schema}.{node.alias} was not told")
            at[unique_id] = instants.now()
            built.append(Built(unique_id, "success"))
        self.at = at
        return built

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

        results = self._invoke(
            "build", "--indirect-selection", "empty", "--exclude-resource-type", "unit_test",
            "--select", *sorted(names), hear=hear,
        )  # fmt: skip
        self._learn(results, told)
        now = instants.now()
        self.at = {r.node.unique_id: now for r in results if r.node.resource_type == "model" and r.status == "success"}
        return [Built(r.node.unique_id, str(r.status), str(r.message or ""), int(r.failures or 0)) for r in results]

    def _invoke(self, command: str, *more: str, hear: Callable[[Any], None] = lambda event: None) -> list[Any]:
        """dbt in this process, telling statements; the results of its nodes.

        Raises:
            ProjectError: if it cannot run at all.
        """
        # Who looks at the account sees which run it was.
        stated = {"C360_RUN": at_work()["run"]} if at_work() else {}
        stated |= {TELL: "1"} if self._warehouse.does_without_dbt else {}
        with (
            environment(self._warehouse.dbt_environment() | stated),
            self._warehouse.held(f"dbt {command}"),
            self._warehouse.dbt_here(),
        ):
            done: Any = dbtRunner(manifest=self._manifest, callbacks=[hear]).invoke(
                ["--quiet", "--no-write-json", "--cache-selected-only", command, *more, *self._places]
            )
        if done.exception is not None:
            raise ProjectError(str(done.exception))
        return list(done.result)

    def _learn(self, results: Sequence[Any], told: Mapping[str, Mapping[str, Any]]) -> None:
        """What the next build of these needs."""
        for result in results:
            node, unique_id = result.node, result.node.unique_id
            if result.status not in ("success", "pass", "warn"):
                continue
            if node.resource_type == "test":
                self._tests[unique_id] = node
            elif node.config.materialized == "table":
                self._told[unique_id] = _made_anew(node)
            elif unique_id in told:
                self._told[unique_id] = told[unique_id]


def _made_anew(node: Any) -> Mapping[str, Any]:
    """A table that is made of what there is, whatever is new."""
    made = f"create or replace table {node.schema}.{node.alias} as {node.compiled_code}"
    return {"model": node.alias, "batches": None, "writes": [made]}


def _ranks(nodes: Mapping[str, Any]) -> dict[str, tuple[int, int, str]]:
    """Sorted by it, every model comes after what it is made of, and every test as soon as its models are there; what is
    `quick`, and what that is made of, comes before all others."""
    models = {key: node for key, node in nodes.items() if node.resource_type == "model"}
    parents = {key: {each for each in node.depends_on.nodes if each in models} for key, node in models.items()}
    ordered = list(TopologicalSorter(parents).static_order())
    first = {key for key, node in models.items() if node.config.meta.get("quick")}
    for key in reversed(ordered):
        if key in first:
            first |= parents[key]
    place = {key: number for number, key in enumerate(sorted(ordered, key=lambda key: key not in first))}
    return {
        key: (place[key], 0, key)
        if key in models
        else (max((place[each] for each in node.depends_on.nodes if each in place), default=-1), 1, key)
        for key, node in nodes.items()
        if node.resource_type in ("model", "test")
    }


def _run(session: Session, told: Mapping[str, Any]) -> int:
    """One model's statements in one transaction: what is read keeps its address until it is written. How many rows of
    new batches it wrote, or took away."""
    if told["batches"] is None:
        with session.transaction():
            for write in told["writes"]:
                session.execute(write)
        return 0
    batches, *steps = told["steps"]
    with session.transaction():
        session.execute(batches)
        if not session.rows(f"select 1 from {told['model']}__batches limit 1"):
            return 0
        for step in steps:
            session.execute(step)
        if each := told["each"]:
            query = f"select feed, cast(event_time as varchar) from ({each['of']}) as waiting order by feed, event_time"
            for feed, instant in session.rows(query):
                judged = each["do"].replace(":judged_feed", f"'{feed}'")
                session.execute(judged.replace(":judged_at", f"cast('{instant}' as timestamp)"))
        for step in told["then"]:
            session.execute(step)
        writes = told["writes"]
        if told["unless"] and session.rows(told["unless"]):
            _, *steps = told["otherwise"]["steps"]
            for step in steps:
                session.execute(step)
            writes = told["otherwise"]["writes"]
        *changes, mark = writes
        counts = [session.rows(change) for change in changes]
        session.execute(mark)
    return sum(count or 0 for rows in counts for (count,) in rows)
