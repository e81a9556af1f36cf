"""Where values about persons stand in the tables: nowhere but in columns that are masked for who only reads."""

from __future__ import annotations

from collections.abc import Sequence

from c360_assets.entities import personal_columns
from tests.parts import Platform

# What who only reads sees, and what functions read for them.
SEEN, READ_FOR_THEM = ("core", "vault", "gold"), ("clean",)


def assert_masked(platform: Platform, sources: Sequence[str]) -> None:
    """`sources`: the tables that have the values, under their declared names.

    A view shows what its tables mask; it may show it under another name only if it is a table that is masked.
    """
    masked = {(table, column) for table, column, _ in personal_columns(platform.project)}
    names = {column for _, column in masked}
    columns = platform.rows(
        "select t.table_schema || '.' || t.table_name, c.column_name, t.table_type from information_schema.columns as c "
        "inner join information_schema.tables as t on c.table_schema = t.table_schema and c.table_name = t.table_name "
        f"where c.table_schema in {(*SEEN, *READ_FOR_THEM)}"
    )
    named = {(table, column) for table, column, kind in columns if kind == "BASE TABLE" and column in names}
    assert named == masked, f"not masked: {sorted(named - masked)}; not there: {sorted(masked - named)}"

    values: set[object] = set()
    for source in sources:
        own = [column for table, column in sorted(masked) if table == source]
        values |= {v for row in platform.rows(f"select {', '.join(own)} from {source}") for v in row if v is not None}
    assert len(values) > 10, "there is something to find"
    for seen in sorted({table for table, _, _ in columns if table.split(".")[0] in SEEN}):
        shown = [column for table, column, _ in columns if table == seen and column not in names]
        found = [
            f"{column}: {value}"
            for row in platform.rows(f"select {', '.join(shown)} from {seen}")
            for column, value in zip(shown, row, strict=True)
            if isinstance(value, str) and value in values
        ]
        assert found == [], f"{seen} shows what is masked elsewhere: {found[:3]}"
