"""docs/flow.md, made from dbt's manifest: `python -m tests.architecture.flow` writes it anew."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from c360_assets import transform
from c360_assets.settings import PROJECT, Settings
from c360_assets.warehouse import open_warehouse

DOCUMENT = PROJECT / "docs" / "flow.md"
BEGIN, END = "<!-- made from the manifest: python -m tests.architecture.flow -->", "<!-- end -->"
LAYERS = ("staging", "clean", "core", "vault", "gold")
LEDGER = ("object_ledger", "refused_rows", "quarantine_decisions")


def diagram(manifest: Mapping[str, Any]) -> str:
    """A mermaid flow chart: the tables of one entity in one layer are one box."""
    nodes = {
        key: node
        for key, node in {**manifest["nodes"], **manifest["sources"]}.items()
        if node["resource_type"] in ("model", "source") and node["name"] not in LEDGER
    }
    families = sorted(
        {node["config"]["meta"]["entity"]["name"] for node in nodes.values() if node["config"]["meta"].get("entity")},
        key=len,
        reverse=True,
    )
    feeds = {
        key: node["config"]["meta"]["feed"].get("entity") for key, node in nodes.items() if key.startswith("source.")
    }

    def box(key: str) -> str:
        node = nodes[key]
        of = next((f for f in families if node["name"] == f or node["name"].startswith(f"{f}_")), node["name"])
        return f"{node['schema']}.{of if node['schema'] in ('clean', 'core') else node['name']}"

    edges = set()
    for key, node in nodes.items():
        waits = node["config"]["meta"].get("waits_for") or ()
        reads = node["config"]["meta"].get("reads_feeds")
        parents = [
            p for p in node.get("depends_on", {}).get("nodes", ()) if p in nodes and nodes[p]["name"] not in waits
        ]
        parents += [feed for feed, entity in feeds.items() if reads is not None and reads == entity]
        edges |= {(box(parent), box(key)) for parent in parents if box(parent) != box(key)}
    boxes = {box(key) for key in nodes}
    lines = ["```mermaid", "flowchart LR"]
    for layer in LAYERS:
        lines.append(f"  subgraph {layer}")
        lines += [
            f'    {name.replace(".", "__")}["{name.split(".")[1]}"]'
            for name in sorted(boxes)
            if name.split(".")[0] == layer
        ]
        lines.append("  end")
    lines += [f"  {a.replace('.', '__')} --> {b.replace('.', '__')}" for a, b in sorted(edges)]
    return "\n".join([*lines, "```"])


def document(manifest: Mapping[str, Any]) -> str:
    """The document with the diagram as it has to be."""
    text = DOCUMENT.read_text()
    return f"{text.split(BEGIN)[0]}{BEGIN}\n\n{diagram(manifest)}\n\n{END}{text.split(END)[1]}"


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        warehouse = open_warehouse(Settings.load({"C360_HOME": home}))
        manifest = transform.prepare_manifest(PROJECT / "dbt", Path(home) / "dbt", warehouse)
        DOCUMENT.write_text(document(json.loads(manifest.read_text())))


if __name__ == "__main__":
    main()
