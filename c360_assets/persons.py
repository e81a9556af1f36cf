"""Persons: everything that is held of one customer, wherever it stands.

Belongs here: finding the rows. No list of tables is kept that somebody would forget to add to: every text column of
every table is looked at, so that a raw record, a refused row or an issue that names the customer is found as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from c360_assets.entities import Declaration
from c360_assets.feeds import Feed
from c360_assets.warehouse import Session

SCHEMAS = ("staging", "clean", "core", "vault", "gold", "serving", "checks")
_TEXT = ("varchar", "text", "character varying", "string")
Row = Mapping[str, Any]


# Whole records, and what a test calls the value that it complains of.
_RECORDS = ("raw", "payload", "_extra", "value_field")


class NobodyFound(LookupError):
    """Nothing is held of the customer; the text names the id."""


def held(session: Session, customer_id: str) -> dict[str, list[Row]]:
    """{schema.table: rows that name the customer}, tables without any left out.

    In the vault the customer's hash key stands for the id.

    Raises:
        NobodyFound: if no table does.
    """
    texts = text_columns(session)
    found = {
        table: rows for table, columns in texts.items() if (rows := list(_rows(session, table, columns, [customer_id])))
    }
    keys = [str(row["customer_hk"]) for row in found.get("vault.hub_customer", ())]
    for table in [t for t in texts if t.startswith("vault.") and t not in found] if keys else []:
        if rows := list(_rows(session, table, texts[table], keys)):
            found[table] = rows
    if not found:
        raise NobodyFound(f"no table names a customer '{customer_id}'")
    return dict(sorted(found.items()))


def hidden_columns(entities: Mapping[str, Declaration], feeds: Mapping[str, Feed]) -> set[str]:
    """Columns that no message about a table shows: the personal ones under every name, and whole records."""
    hidden = set(_RECORDS)
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
    return re.search(rf"(?<![A-Za-z0-9_-]){re.escape(value)}(?![A-Za-z0-9_-])", str(text)) is not None


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


def _rows(session: Session, table: str, columns: list[str], values: list[str]) -> Iterator[Row]:
    """The warehouse finds what holds the text anywhere, and here it is told whether that is the value."""
    near = " or ".join(f"position(? in {column}) > 0" for column in columns for _ in values)
    bound = [value for _ in columns for value in values]
    header, rows = session.result(f"select * from {table} where {near}", bound)
    for row in rows:
        told = dict(zip((name.lower() for name in header), row, strict=True))
        if any(names(value, told[column]) for column in columns for value in values):
            yield told
