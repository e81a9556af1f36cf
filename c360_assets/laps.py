"""Laps: what of a feed's tables is made within seconds, and what may wait for the next whole build.

Belongs here: the selection, and what a process that stays brings to the graph. Everything up to core is made in a lap,
and what says `quick: true` in its `meta`; views are there already. The checks of what stands between run with it, so
that nothing is handed on that would not be else.
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
    from c360_assets.warm import WarmDbt

_LAYERS = ("clean", "core")


@dataclass(frozen=True)
class Resident:
    """A process that stays: dbt in it, what it was told of new objects, and that nobody but itself tries again."""

    dbt: WarmDbt
    told: Callable[[Feed], Sequence[Listed] | None]
    policy: Mapping[str, Any] = field(default_factory=lambda: {"retry_policy": None, "pool": None})


@dataclass(frozen=True)
class Lap:
    """`tables`: schema.table; `gates`: (schema.view, name of a check on it)."""

    tables: tuple[str, ...]
    gates: tuple[tuple[str, str], ...]


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
            (names[node["attached_node"]], node["name"])
            for node in nodes.values()
            if node["resource_type"] == "test" and node.get("attached_node") in between
        ]
        found[feed] = Lap(tuple(sorted(names[key] for key in tables)), tuple(sorted(gates)))
    return found


def _is_made(node: Mapping[str, Any]) -> bool:
    config = node["config"]
    return config["materialized"] != "view" and (node["schema"] in _LAYERS or bool(config["meta"].get("quick")))


def _ancestors(nodes: Mapping[str, Any], of: set[str]) -> set[str]:
    found: set[str] = set()
    left = list(of)
    while left:
        for parent in nodes[left.pop()]["depends_on"]["nodes"]:
            if parent in nodes and parent not in found:
                found.add(parent)
                left.append(parent)
    return found
