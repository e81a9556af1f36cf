"""Laps: what of a feed's tables is made within seconds, and what may wait for the next whole build.

Belongs here: the selection, and what a process that stays brings to the graph. Everything up to core is made in a lap,
and what says `quick: true` in its `meta`; views are there already. The checks of what stands between run with it, so
that nothing is handed on that would not be else; those of what a lap hands to nobody are left to the run that tells.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c360_assets.feeds import Feed
from c360_assets.landing import Listed
from c360_assets.pending import Lineage

if TYPE_CHECKING:
    from c360_assets.staging import Loaded
    from c360_assets.warm import WarmDbt

LAYERS = ("clean", "core")
# What is served with a lap that makes the table of gold it is a view of.
SERVED = {"gold.vw_real_time": "gold.real_time_metrics"}


@dataclass(frozen=True)
class Resident:
    """A process that stays: dbt in it, what it was told of new objects, what it has loaded since the last run, what it
    does in `between` the parts of a run, and that nobody but itself tries again."""

    dbt: WarmDbt
    told: Callable[[Feed], Sequence[Listed] | None]
    loaded: Callable[[Feed], Loaded]
    between: Callable[[], bool]
    policy: Mapping[str, Any] = field(default_factory=lambda: {"retry_policy": None, "pool": None})

    @property
    def loading(self) -> dict[str, Any]:
        """What the assets of staging take."""
        return {"told": self.told, "before": self.loaded, "between": self.between, "is_prepared": True}


@dataclass(frozen=True)
class Lap:
    """`tables`: schema.table; `gates`: (schema.view, name of a check on it); `checks`: names of those on the tables of
    which another is made; `last`: of those on the others, which look at all of a table and hold nothing back here."""

    tables: tuple[str, ...]
    gates: tuple[tuple[str, str], ...]
    checks: tuple[str, ...]
    last: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """Of the nodes of a lap, as dbt has them."""
        return frozenset({table.split(".")[1] for table in self.tables} | {n for _, n in self.gates} | set(self.checks))


def laps_of(manifest: Path, lineage: Lineage) -> dict[str, Lap]:
    """{feed: what a lap of it makes}, from dbt's manifest."""
    nodes = json.loads(manifest.read_text())["nodes"]
    models = {key: node for key, node in nodes.items() if node["resource_type"] == "model"}
    names = {key: f"{node['schema']}.{node['alias']}" for key, node in models.items()}
    found = {}
    for feed in sorted(set().union(*lineage.feeds_of.values())):
        made = {key for key, name in names.items() if feed in lineage.feeds_of[name]}
        tables = {key for key in made if _is_made(models[key])}
        above = _ancestors(nodes, tables)
        between = (above & models.keys()) - tables
        gates = [
            (names[str(_about(node))], node["name"])
            for node in nodes.values()
            if node["resource_type"] == "test" and _about(node) in between
        ]
        tests = [node for node in nodes.values() if node["resource_type"] == "test" and _about(node) in tables]
        checks = sorted(node["name"] for node in tests if _about(node) in above)
        last = sorted(node["name"] for node in tests if _about(node) not in above)
        made_names = tuple(sorted(names[key] for key in tables))
        found[feed] = Lap(made_names, tuple(sorted(gates)), tuple(checks), tuple(last))
    return found


def _about(test: Mapping[str, Any]) -> str | None:
    """The model whose check it is: said where a test has several parents."""
    said = test["config"]["meta"].get("dagster", {}).get("ref", {}).get("name")
    of = test["depends_on"]["nodes"]
    return next((parent for parent in of if parent.split(".")[-1] == said), None) if said else test.get("attached_node")


def _is_made(node: Mapping[str, Any]) -> bool:
    config = node["config"]
    return config["materialized"] != "view" and (node["schema"] in LAYERS or bool(config["meta"].get("quick")))


def _ancestors(nodes: Mapping[str, Any], of: set[str]) -> set[str]:
    found: set[str] = set()
    left = list(of)
    while left:
        for parent in nodes[left.pop()]["depends_on"]["nodes"]:
            if parent in nodes and parent not in found:
                found.add(parent)
                left.append(parent)
    return found
