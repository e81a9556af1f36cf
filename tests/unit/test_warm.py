"""A warm dbt on a project of two models: what comes between two nodes of a build, and what that may leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from c360_assets.duckdb_warehouse import DuckDBWarehouse
from c360_assets.warm import Built, WarmDbt, _run

FILES = {
    "dbt_project.yml": "{name: tiny, version: 1.0.0, config-version: 2, profile: tiny, model-paths: [models]}",
    "profiles.yml": """
tiny:
  target: duckdb
  outputs: {duckdb: {type: duckdb, path: "{{ env_var('C360_DUCKDB_PATH', 'tiny.duckdb') }}", schema: main}}
""",
    "models/one.sql": "{{ config(materialized='table') }} select 1 as number",
    "models/two.sql": "{{ config(materialized='table') }} select cast(text as integer) as number from main.given -- {{ ref('one') }}",
    "models/all.yml": """
models:
  - {name: two, columns: [{name: number, data_tests: [{not_null: {name: two_has_a_number}}]}]}
""",
}  # fmt: skip
NODES = ("one", "two", "two_has_a_number")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WarmDbt, DuckDBWarehouse, list[str]]]:
    folder = tmp_path_factory.mktemp("tiny")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    warehouse, said = DuckDBWarehouse(folder / "tiny.duckdb"), list[str]()
    given(warehouse, "1")
    dbt = WarmDbt(folder, folder / "target", warehouse, said.append)
    dbt.learn()
    yield dbt, warehouse, said


def given(warehouse: DuckDBWarehouse, text: str) -> None:
    with warehouse.writing("test") as session:
        session.execute(f"create or replace table given as select '{text}' as text")


def numbers(warehouse: DuckDBWarehouse) -> list[tuple[int]]:
    with warehouse.reading() as session:
        return session.rows("select number from two")


def test_a_model_that_a_lap_in_between_left_out_is_not_told_as_built(
    tiny: tuple[WarmDbt, DuckDBWarehouse, list[str]],
) -> None:
    dbt, warehouse, said = tiny
    inner: list[Built] = []

    def between() -> bool:
        if not inner:
            given(warehouse, "no number")
            dbt.between = lambda: True
            inner.extend(dbt.build(["two"], 5))
            given(warehouse, "2")
        return True

    dbt.between = between
    built = dbt.build(NODES, 5)
    assert [each.status for each in inner] == ["error"]
    assert numbers(warehouse) == [(2,)] and {each.status for each in built} == {"success", "pass"}
    assert said[-1] == "dbt builds 3 nodes: main.two was not told"


def test_after_a_lap_that_was_not_sound_it_is_asked_again_whether_anything_is_to_be_built(
    tiny: tuple[WarmDbt, DuckDBWarehouse, list[str]],
) -> None:
    dbt, warehouse, said = tiny
    given(warehouse, "3")
    dbt.between = lambda: False

    def held_up() -> None:
        raise RuntimeError("held up")

    with pytest.raises(RuntimeError, match="held up"):
        dbt.build(NODES, 5, held_up)
    assert numbers(warehouse) == [(2,)]
    dbt.build(NODES, 5)
    assert numbers(warehouse) == [(3,)] and said[-1] == "dbt builds 3 nodes: what came in between was not sound"


def test_a_model_tells_how_many_rows_it_wrote_and_a_batch_of_others_is_none(tmp_path: Path) -> None:
    """By which it is known whether a batch is half way through."""
    warehouse = DuckDBWarehouse(tmp_path / "w.duckdb")
    told = {
        "model": "log", "batches": "select batch from available", "each": None, "then": [], "unless": None,
        "steps": ["create or replace temporary table log__batches as select batch from available where batch not in (from marks)",
                  "create or replace temporary table log__rows as from rows where batch in (from log__batches)"],
        "writes": ["delete from log where batch in (from log__batches)", "insert into log from log__rows",
                   "insert into marks from log__batches"],
    }  # fmt: skip
    with warehouse.writing("test") as session:
        session.execute("create table rows as select 'a' as batch from range(3)")
        session.execute("create table available as select unnest(['a', 'of another feed']) as batch")
        session.execute("create table marks (batch varchar); create table log (batch varchar)")
        session.execute("insert into marks values ('a')")
        assert _run(session, told) == 0
        session.execute("delete from marks")
        assert _run(session, told) == 3
        assert _run(session, told) == 0
        assert session.rows("select count(*) from log") == [(3,)]
