"""Entities written from a declaration: what is written, what is refused, and that the shipped ones are no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from c360_assets.entities import Declaration, EntityError, columns_of, declared, find_entity, models_of, write
from c360_assets.settings import PROJECT

DBT = PROJECT / "dbt"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DBT, tmp_path / "dbt"))


def item(**changes: object) -> Declaration:
    given: dict[str, object] = {
        "name": "parcel", "key": ("order_id", "line"), "tracked": columns_of("price:decimal(18,4),product_id"),
        "type1": columns_of("note"),
    }  # fmt: skip
    return Declaration(**(given | changes))  # type: ignore[arg-type]


def test_columns_have_a_type_or_are_text() -> None:
    assert columns_of(" Name, price : decimal(18,4),day:date") == (
        ("name", "varchar"), ("price", "decimal(18,4)"), ("day", "date"),
    )  # fmt: skip
    assert columns_of("") == ()


def test_what_is_written_is_declared_and_named_in_the_project(project: Path) -> None:
    new = write(item(), project)
    assert {p.relative_to(project / "models").as_posix() for p in new} == models_of(item(), project).keys()
    assert list(declared(project))[:2] == ["customer", "product"] and list(declared(project))[-1] == "parcel"
    assert declared(project)["parcel"] == item()
    assert write(item(), project) == []
    assert not [p for p in new if "NAME" in p.read_text()]


def test_the_models_of_every_entity_are_those_that_are_written() -> None:
    for entity in declared(DBT).values():
        for path, text in models_of(entity, DBT).items():
            if path != "core/customer.yml":  # it says more of its columns, and has the view of changes
                assert (DBT / "models" / path).read_text() == text, path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "Order Item"}, "'Order Item' is no name"),
        ({"key": ()}, "parcel: an entity has a key"),
        ({"tracked": ()}, "at least one tracked column"),
        ({"type1": (("price", "varchar"),)}, "column 'price' stands twice"),
        ({"tracked": (("position", "varchar"),)}, "column 'position' is a name of ours"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(project: Path, changes: dict[str, object], named: str) -> None:
    before = sorted(project.rglob("*"))
    with pytest.raises(EntityError, match=named):
        write(item(**changes), project)
    assert sorted(project.rglob("*")) == before


def test_a_file_that_says_something_else_is_not_written_over(project: Path) -> None:
    (project / "models" / "core" / "parcel.sql").write_text("select 1")
    with pytest.raises(EntityError, match=r"parcel\.sql is there and says something else"):
        write(item(), project)
    assert not (project / "models" / "clean" / "parcel_rows.sql").exists()


def test_an_entity_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(EntityError, match="entity 'shop' is not declared; there are: customer, product"):
        find_entity(DBT, "shop")
