"""Persons: everything that is held of one customer, wherever it stands.

Belongs here: finding the rows. No list of tables is kept that somebody would forget to add to: every text column of
every table is looked at, so that a raw record, a refused row or an issue that names the customer is found as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c360_assets.entities import Declaration
from c360_assets.feeds import Feed
from c360_assets.redaction import ID, Naming, edges, spellings, tokens_of
from c360_assets.warehouse import Session

SCHEMAS = ("staging", "clean", "core", "vault", "gold", "serving", "checks")
_TEXT = ("varchar", "text", "character varying", "string")
Row = Mapping[str, Any]


# Columns that hold whole records.
_RECORDS = ("raw", "payload", "_extra")
# Where a row came from: it is not of whom the name of its object names.
_LINEAGE = ("_key", "record_source", "winner_key")
_HUB, _HASH = "vault.hub_customer", "customer_hk"
# Letters of Latin scripts beside those of ASCII.
_LATIN = "\u00c0-\u024f"
# What a test calls the value that it complains of.
_COMPLAINT = "value_field"


class NobodyFound(LookupError):
    """Nothing is held of the customer; the text names the id."""


@dataclass(frozen=True)
class Near:
    """A column, and the rows in which it may name somebody: `sql` over it, with its values."""

    column: str
    sql: str
    values: tuple[str, ...]

    @classmethod
    def of(cls, column: str, texts: Collection[str]) -> Near:
        """Rows in which the column has one of the texts somewhere."""
        return cls(column, " or ".join([f"position(? in {column}) > 0"] * len(texts)), tuple(texts))


@dataclass(frozen=True)
class Sought:
    """A customer who is looked for. An id of digits alone is any number elsewhere: it counts in the fields of ids."""

    customer_id: str
    namings: Mapping[str, Naming]

    @classmethod
    def of(cls, customer_id: str, feeds: Mapping[str, Feed]) -> Sought:
        namings = {f"staging.{feed.name}": naming for feed in feeds.values() if (naming := Naming.of(feed))}
        return cls(customer_id, namings)

    def near(self, table: str, columns: Collection[str]) -> list[Near]:
        """The columns of the table that may name them."""
        found = []
        for column in columns:
            if column in _LINEAGE:
                continue
            naming = self._naming(table, column)
            if naming is not None and naming.feed.base64:
                found.append(Near(column, f"{column} is not null", ()))  # told by reading it
            elif naming is not None or column in (ID, *_RECORDS) or not self.customer_id.isdigit():
                found.append(Near.of(column, spellings(self.customer_id)))
        return found

    def is_in(self, table: str, column: str, text: str) -> bool:
        """Does a text of the column name them?"""
        naming = self._naming(table, column)
        if naming is not None and naming.names(text, self._is_it):
            return True
        if column == ID:
            return text.strip() == self.customer_id
        if column in _RECORDS and tokens_of(text, self._is_it):
            return True
        return not self.customer_id.isdigit() and names(self.customer_id, text)

    def _is_it(self, text: str) -> str | None:
        return text if text == self.customer_id else None

    def _naming(self, table: str, column: str) -> Naming | None:
        naming = self.namings.get(table)
        return naming if naming is not None and column in naming.columns else None


def held(session: Session, customer_id: str, feeds: Mapping[str, Feed]) -> dict[str, list[Row]]:
    """{schema.table: rows that name the customer}, tables without any left out.

    In the vault the customer's hash key stands for the id.

    Raises:
        NobodyFound: if no table does.
    """
    texts = text_columns(session)
    sought = Sought.of(customer_id, feeds)
    hub = rows_near(session, _HUB, sought.near(_HUB, texts.get(_HUB, ())), sought.is_in)
    keys = [str(row[_HASH]) for row in hub]
    found: dict[str, list[Row]] = {}
    for table, columns in texts.items():
        near = sought.near(table, columns)
        if keys and table.startswith("vault."):
            near += [Near.of(column, keys) for column in columns if column not in _LINEAGE]
        rows = rows_near(session, table, near, lambda *cell: cell[2] in keys or sought.is_in(*cell))
        if told := list(rows):
            found[table] = told
    if not found:
        raise NobodyFound(f"no table names a customer '{customer_id}'")
    return dict(sorted(found.items()))


def hidden_columns(entities: Mapping[str, Declaration], feeds: Mapping[str, Feed]) -> set[str]:
    """Columns that no message about a table shows: the personal ones under every name, and whole records."""
    hidden = {*_RECORDS, _COMPLAINT}
    for entity in entities.values():
        hidden |= set(entity.personal)
        for feed in feeds.values():
            if feed.entity == entity.name:
                hidden |= {name for column in entity.personal for name in feed.map.get(column, ())}
    return hidden


def names(value: str, text: object) -> bool:
    """Does the text name the value, and not merely a longer one that it is a part of?"""
    if text is None:
        return False
    before, behind = edges(value)
    word = rf"(?<![{_LATIN}]){before}{re.escape(value)}{behind}(?![{_LATIN}])"
    return re.search(word, str(text)) is not None


def text_columns(session: Session, schemas: Collection[str] | None = SCHEMAS) -> dict[str, list[str]]:
    """{schema.table: its text columns} of these schemas, or of all. Views hold nothing of their own."""
    among = f"lower(c.table_schema) in ({', '.join(repr(s) for s in schemas)}) and " if schemas else ""
    columns = session.rows(
        "select lower(c.table_schema), lower(c.table_name), lower(c.column_name), lower(c.data_type) "
        "from information_schema.columns as c inner join information_schema.tables as t "
        "on c.table_schema = t.table_schema and c.table_name = t.table_name and c.table_catalog = t.table_catalog "
        f"where {among}t.table_type = 'BASE TABLE' "
        "order by c.table_schema, c.table_name, c.ordinal_position"
    )
    found: dict[str, list[str]] = {}
    for schema, table, column, kind in columns:
        if kind.split("(")[0] in _TEXT:
            found.setdefault(f"{schema}.{table}", []).append(column)
    return found


def rows_near(
    session: Session, table: str, near: Sequence[Near], is_in: Callable[[str, str, str], bool]
) -> Iterator[Row]:
    """Rows of a table with a cell near by which `is_in`: the warehouse finds what may be one, and here it is told."""
    if not near:
        return
    header, rows = session.result(
        f"select * from {table} where {' or '.join(each.sql for each in near)}",
        [value for each in near for value in each.values],
    )
    for row in rows:
        told = dict(zip((name.lower() for name in header), row, strict=True))
        if any(told[n.column] is not None and is_in(table, n.column, str(told[n.column])) for n in near):
            yield told
