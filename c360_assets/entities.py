"""Entities: the dbt models that carry one, written from its declaration.

Belongs here: reading the declarations, writing the models. Every entity has the same ones, a line or two each, because
the macros do the work; dbt has to find them as files, so `c360 entity` writes them once, from dbt/templates, and they
are the project's from then on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TEMPLATES = Path("templates") / "entity"
# Tables that hold an entity's attributes under its names, as far as the project has them.
_HOLDING = ("clean/{}_rows", "core/{}_log", "core/{}", "core/{}_replaced", "vault/sat_{}")

_ENTITIES = re.compile(r"^( *entities: *\[)([^\]]*)(\].*)$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = {
    "event_time", "position", "op", "content", "known_at", "given", "state_hash", "next_at", "version_from",
    "is_version", "change_type", "ended_by", "valid_from", "valid_to", "is_current", "reasons", "raw", "since",
    "batch", "feed",
}  # fmt: skip


class EntityError(ValueError):
    """An entity cannot be made as asked; the text names what is wrong and what may stand there."""


@dataclass(frozen=True)
class Declaration:
    """An entity; columns are (name, type). `personal`: those with persons' data, masked for who only reads."""

    name: str
    key: tuple[str, ...]
    tracked: tuple[tuple[str, str], ...]
    type1: tuple[tuple[str, str], ...] = ()
    personal: tuple[str, ...] = ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """Every column with content, in the order of the tables."""
        return tuple(sorted(name for name, _ in (*self.tracked, *self.type1)))


def columns_of(text: str) -> tuple[tuple[str, str], ...]:
    """`name,price:decimal(18,4)` as columns; what has no type is text."""
    parts = re.findall(r"[^,(]+(?:\([^)]*\))?[^,]*", text)
    columns = [tuple(part.strip().lower().partition(":")[::2]) for part in parts]
    return tuple((name.strip(), kind.strip() or "varchar") for name, kind in columns)


def models_of(entity: Declaration, project: Path) -> dict[str, str]:
    """{path below models: text} of every file that carries the entity, from the project's templates."""
    types = [(column, "varchar") for column in entity.key] + [*entity.tracked, *entity.type1]
    declaration = [f"key: [{', '.join(entity.key)}]", f"tracked: [{', '.join(name for name, _ in entity.tracked)}]"]
    if entity.type1:
        declaration.append(f"type1: [{', '.join(name for name, _ in entity.type1)}]")
    blocks = {
        "DECLARATION": declaration,
        "COLUMNS": [f'- {{name: {name}, data_type: "{kind}"}}' for name, kind in types],
        "KEYS": [f"- {{name: {key}, data_type: varchar}}" for key in entity.key],
    }
    texts = {}
    for template in sorted(path for path in (project / TEMPLATES).rglob("*") if path.is_file()):
        text = template.read_text()
        for mark, lines in blocks.items():
            indent = next((line.removesuffix(mark) for line in text.split("\n") if line.strip() == mark), "")
            text = text.replace(indent + mark, "\n".join(indent + line for line in lines))
        path = template.relative_to(project / TEMPLATES).as_posix()
        texts[path.replace("NAME", entity.name)] = text.replace("NAME", entity.name)
    return texts


def write(entity: Declaration, project: Path) -> list[Path]:
    """Writes the models of the entity into the dbt project and names it there; returns the files that are new.

    Raises:
        EntityError: for a name or column that cannot be, or a file that is there and says something else.
    """
    _check(entity)
    models = project / "models"
    texts = models_of(entity, project)
    other = [path for path, text in texts.items() if (models / path).exists() and (models / path).read_text() != text]
    if other:
        raise EntityError(f"{models / other[0]} is there and says something else; nothing was written")
    settings = project / "dbt_project.yml"
    listed = _ENTITIES.search(settings.read_text())
    if listed is None:
        raise EntityError(f"{settings}: vars: has no line `entities: [...]` in which the entity could be named")
    new = [models / path for path in texts if not (models / path).exists()]
    for path, text in texts.items():
        (models / path).write_text(text)
    names = [name.strip() for name in listed.group(2).split(",") if name.strip()]
    if entity.name not in names:
        line = f"{listed.group(1)}{', '.join([*names, entity.name])}{listed.group(3)}"
        settings.write_text(_ENTITIES.sub(lambda _: line, settings.read_text(), count=1))
    return new


def _check(entity: Declaration) -> None:
    names = [*entity.key, *(name for name, _ in (*entity.tracked, *entity.type1))]
    for name in (entity.name, *names):
        if not _NAME.fullmatch(name):
            raise EntityError(f"'{name}' is no name: lower case letters, digits and _, a letter first")
    if not entity.key or not entity.tracked:
        raise EntityError(f"{entity.name}: an entity has a key, and at least one tracked column")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EntityError(f"{entity.name}: column '{twice[0]}' stands twice")
    taken = sorted(set(names) & _TAKEN)
    if taken:
        raise EntityError(f"{entity.name}: column '{taken[0]}' is a name of ours; map the feed's column onto another")


def _check_personal(path: Path, entity: Declaration) -> None:
    unknown = sorted(set(entity.personal) - set(entity.attributes))
    if unknown:
        raise EntityError(
            f"{path}: entity '{entity.name}': personal: '{unknown[0]}' is no attribute; "
            f"there are: {', '.join(entity.attributes)}"
        )


def declared(project: Path) -> dict[str, Declaration]:
    """The entities whose history the project keeps, as the models of their logs declare them, by name."""
    listed = (yaml.safe_load((project / "dbt_project.yml").read_text()).get("vars") or {}).get("entities") or []
    found: dict[str, Declaration] = {}
    for path, model, meta in _models(project):
        entity = meta.get("entity") or {}
        if entity.get("name") in listed:
            types = {c["name"]: c.get("data_type", "varchar") for c in model.get("columns") or []}
            found[entity["name"]] = Declaration(
                entity["name"],
                tuple(entity["key"]),
                tuple((c, types.get(c, "varchar")) for c in entity["tracked"]),
                tuple((c, types.get(c, "varchar")) for c in entity.get("type1") or []),
                tuple(entity.get("personal") or []),
            )
            _check_personal(path, found[entity["name"]])
    return {name: found[name] for name in listed if name in found}


def personal_columns(project: Path) -> list[tuple[str, str, str]]:
    """Table, column and what it is, of every column about a person in a table that models make.

    A table of an entity has them under the entity's names. Where a model gives them another, its own meta says so
    (`personal: [landing_page]`).
    """
    found: list[tuple[str, str, str]] = []
    for path, model, meta in _models(project):
        entity = meta.get("entity") or {}
        for place in _HOLDING if entity.get("personal") else ():
            file = project / "models" / f"{place.format(entity['name'])}.sql"
            # What says no materialization is a view, and shows what its tables mask.
            if file.exists() and "materialized=" in file.read_text():
                table = f"{file.parent.name}.{file.stem}"
                found += [(table, column, f"{entity['name']}.{column}") for column in entity["personal"]]
        table = f"{path.parent.name}.{model['name']}"
        found += [(table, column, f"{model['name']}.{column}") for column in meta.get("personal") or ()]
    return found


def _models(project: Path) -> Iterator[tuple[Path, Mapping[str, Any], Mapping[str, Any]]]:
    """Of every model that a yml describes: the file, what it says, and its meta."""
    for path in sorted((project / "models").rglob("*.yml")):
        for model in (yaml.safe_load(path.read_text()) or {}).get("models") or []:
            yield path, model, (model.get("config") or {}).get("meta") or {}


def find_entity(project: Path, name: str) -> Declaration:
    """The entity of that name, or an EntityError that lists what there is."""
    there = declared(project)
    if name not in there:
        raise EntityError(f"entity '{name}' is not declared; there are: {', '.join(there) or 'none'}")
    return there[name]
