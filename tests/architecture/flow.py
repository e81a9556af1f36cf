"""The diagrams of docs/flow.md, made from dbt's manifest: `python -m tests.architecture.flow` writes them anew."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Reference:
    """Columns of a table that name a row of another by columns of that, where there is one."""

    table: str
    columns: tuple[str, ...]
    to: str
    to_columns: tuple[str, ...]


def models_of(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}


def constraints(model: Mapping[str, Any], kind: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Columns and expression of each constraint of the kind, which columns declare, or the model of several of them."""
    for each in model["constraints"]:
        if each["type"] == kind:
            yield tuple(each["columns"]), each["expression"] or ""
    for name, column in model["columns"].items():
        for each in column["constraints"]:
            if each["type"] == kind:
                yield (name,), each["expression"] or ""


def primary_keys(manifest: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """{table: what a row of it stands for}: the grain where it is refreshed by that, else the primary key declared."""
    found = {}
    for name, model in models_of(manifest).items():
        declared = [columns for columns, _ in constraints(model, "primary_key")]
        if key := model["config"].get("grain") or next(iter(declared), None):
            found[name] = tuple(key)
    return found


def references(manifest: Mapping[str, Any]) -> list[Reference]:
    """Every foreign key that a model declares."""
    found = []
    for name, model in models_of(manifest).items():
        for columns, expression in constraints(model, "foreign_key"):
            named = re.fullmatch(r"(\w+) \((.+)\)", expression)
            assert named, f"{name}: a foreign key says: table (column, ...), and not: {expression}"
            found.append(Reference(name, columns, named[1], tuple(named[2].split(", "))))
    return sorted(found, key=lambda each: (each.to, each.table, each.columns))


def star(manifest: Mapping[str, Any]) -> str:
    """A mermaid entity diagram: tables that others refer to or that refer to others, with the columns of their keys."""
    models, keys, refers = models_of(manifest), primary_keys(manifest), references(manifest)
    lines = ["```mermaid", "erDiagram"]
    for table in sorted({r.table for r in refers} | {r.to for r in refers}):
        foreign = {column for r in refers if r.table == table for column in r.columns}
        lines.append(f"  {table} {{")
        for column in dict.fromkeys([*keys.get(table, ()), *sorted(foreign)]):
            marks = [mark for mark, of in (("PK", keys.get(table, ())), ("FK", foreign)) if column in of]
            lines.append(f"    {models[table]['columns'][column]['data_type']} {column} {', '.join(marks)}")
        lines.append("  }")
    lines += [f'  {r.to} |o--o{{ {r.table} : "{", ".join(r.columns)}"' for r in refers]
    return "\n".join([*lines, "```"])


def document(manifest: Mapping[str, Any]) -> str:
    """The document with the diagrams as they have to be."""
    head, *parts = DOCUMENT.read_text().split(BEGIN)
    made = zip((diagram(manifest), star(manifest)), parts, strict=True)
    return head + "".join(f"{BEGIN}\n\n{each}\n\n{END}{part.split(END)[1]}" for each, part in made)


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        warehouse = open_warehouse(Settings.load({"C360_HOME": home}))
        manifest = transform.prepare_manifest(PROJECT / "dbt", Path(home) / "dbt", warehouse)
        DOCUMENT.write_text(document(json.loads(manifest.read_text())))


if __name__ == "__main__":
    main()
