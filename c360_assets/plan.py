"""Plan: what a run would do, told before it does it.

The run is made, on a copy of the warehouse that nobody else knows of, and both are compared. So the answer is not an
estimate, and costs what the run costs and the disk of one copy.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from c360_assets.entities import Declaration
from c360_assets.settings import Settings
from c360_assets.warehouse import Session, Warehouse

EXAMPLES = 5


@dataclass(frozen=True)
class Effect:
    """One kind of change, how often, and some of what it concerns."""

    of: str
    effect: str
    count: int
    examples: tuple[str, ...]


@contextmanager
def rehearsal(settings: Settings, warehouse: Warehouse, endpoint: str) -> Iterator[Settings]:
    """Settings of a home with a copy of the warehouse, on the same S3; gone when the body ends."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="plan-", dir=settings.home) as folder,
        warehouse.copied(Path(folder)) as copy,
    ):
        home = Path(folder)
        # The project as it was read last; else the copy would read it anew.
        for part in ("manifest.json", "fingerprint"):
            read = settings.dbt_home / warehouse.target / part
            if read.exists():
                kept = home / "dbt" / warehouse.target / part
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(read, kept)
        snowflake = replace(settings.snowflake, database=copy.database) if copy.database else settings.snowflake
        # A pipe brings nothing into a copy, and what is read comes to the same.
        yield replace(settings, home=home, s3_endpoint=endpoint, snowflake=snowflake, loading="read", rehearsal=True)


def effects(before: Warehouse, after: Warehouse, entities: Sequence[Declaration]) -> list[Effect]:
    """What the run changed, kind by kind; kinds of which there is nothing are left out."""
    with before.reading() as session:
        had = session.tables()
    with after.beside(before) as (session, there):
        return list(_Comparison(session, there, had).effects(entities))


class _Comparison:
    """Two states of the tables: as they are by their names, and as they were, in the database `there`."""

    def __init__(self, session: Session, there: str, had: set[str]) -> None:
        self._session = session
        self._there = there
        self._had = had
        self._has = session.tables()

    def effects(self, entities: Sequence[Declaration]) -> Iterator[Effect]:
        yield from self._appeared(
            "objects", "loaded", "staging.object_ledger", ("feed", "key", "etag", "batch"), ("feed", "key")
        )
        for entity in entities:
            if f"core.{entity.name}_history" in self._has:
                yield from self._of_entity(entity)
        register, refusal = "clean.quarantine", ("feed", "_key", "_etag", "_row", "line", "reasons")
        yield from self._appeared("rows", "quarantined", register, refusal, ("reasons", "_key", "_row"))
        yield from self._vanished("rows", "out of quarantine", register, refusal, ("reasons", "_key", "_row"))
        sales = "gold.daily_sales_summary"
        if sales in self._has:
            changed = f"{self._only(sales, ('*',))} union all {self._only(sales, ('*',), before=True)}"
            yield from self._found("daily sales", "changed", ("sales_date", "store_id", "currency"), changed)

    def _of_entity(self, entity: Declaration) -> Iterator[Effect]:
        had = self._columns(f"core.{entity.name}")
        if had is not None and not set(entity.key) <= set(had):
            yield Effect(entity.name, "made anew, by another key", 1, (" ".join(entity.key),))
            return
        key = ", ".join(entity.key)
        row = (*entity.key, *entity.attributes)
        version = (*row, "valid_from", "valid_to")
        current, history, log = (f"core.{entity.name}{suffix}" for suffix in ("", "_history", "_log"))
        had_event = f"({key}) in (select {key} from {self._before(log)})"
        was_there = f"({key}) in (select {key} from {self._before(current)})"
        came = self._only(current, entity.key)
        yield from self._appeared(entity.name, "new", current, entity.key, entity.key, f"not {had_event}")
        yield from self._found(
            entity.name, "back after a delete", entity.key, f"select * from ({came}) where {had_event}"
        )
        yield from self._found(
            entity.name, "changed", entity.key, f"select {key} from ({self._only(current, row)}) where {was_there}"
        )
        yield from self._vanished(entity.name, "deleted", current, entity.key, entity.key)
        # The past changes where an ended version is no more what it was, or one begins before the last that there was,
        # or with it and says something else.
        anew = f"select {key}, valid_from from ({self._only(history, (*row, 'valid_from'))})"
        yield from self._found(
            entity.name,
            "spliced",
            entity.key,
            f"""
            select {key} from ({self._only(history, version, before=True)}) where valid_to is not null
            union
            select {key} from ({self._only(history, version)})
            inner join (
                select {key}, max(valid_from) as last_from from {self._before(history)} group by {key}
            ) using ({key})
            where valid_from < last_from
                or (valid_from = last_from and valid_to is not null and ({key}, valid_from) in ({anew}))
            """,
        )

    def _before(self, table: str) -> str:
        return f"{self._there}.{table}" if table in self._had else f"(select * from {table} where false)"

    def _only(self, table: str, columns: Sequence[str], *, before: bool = False) -> str:
        """Rows of now that were not there, or of before that are not there any more; a column that is new was null."""
        had = self._columns(table)
        then = ", ".join(name if name == "*" or had is None or name in had else f"null as {name}" for name in columns)
        sides = [f"select {', '.join(columns)} from {table}", f"select {then} from {self._before(table)}"]
        return " except ".join(reversed(sides) if before else sides)

    def _columns(self, table: str) -> list[str] | None:
        """Of the table as it was; None where there was none."""
        return self._session.columns(f"{self._there}.{table}") if table in self._had else None

    def _appeared(
        self, of: str, effect: str, table: str, columns: Sequence[str], shown: Sequence[str], where: str = "true"
    ) -> Iterator[Effect]:
        if table in self._has:
            yield from self._found(of, effect, shown, f"select * from ({self._only(table, columns)}) where {where}")

    def _vanished(
        self, of: str, effect: str, table: str, columns: Sequence[str], shown: Sequence[str]
    ) -> Iterator[Effect]:
        if table in self._has:
            yield from self._found(of, effect, shown, self._only(table, columns, before=True))

    def _found(self, of: str, effect: str, shown: Sequence[str], sql: str) -> Iterator[Effect]:
        names = ", ".join(shown)
        rows = self._session.rows(
            f"select {names}, count(*) over () from (select distinct {names} from ({sql})) "
            f"order by {names} limit {EXAMPLES}"
        )
        if rows:
            yield Effect(of, effect, rows[0][-1], tuple(" ".join(map(str, row[:-1])) for row in rows))
