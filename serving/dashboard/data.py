"""What the pages ask of the serving store, and get as frames.

Belongs here: SQL with bound values, and answers kept for as long as the store holds the same generation. A frame has
its values as the store has them, exact; `numbers` and `times` are what charts draw of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from c360_assets.store import Served, Snapshot

MOST = 5_000
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Data:
    """One generation of the store, as the reader may see it."""

    read: Snapshot
    served: Served
    personal: bool

    @property
    def hidden(self) -> str:
        """The column with what the reader may see of persons."""
        return "personal" if self.personal else "masked"

    def rows(self, sql: str, values: Values | None = None) -> list[tuple[Any, ...]]:
        bound = tuple(sorted((values or {}).items()))
        return _asked(self.read, self.served.generation, self.served.at, sql, bound)

    def value(self, sql: str, values: Values | None = None) -> Any:
        """The first value of the first row; None where there is no row."""
        rows = self.rows(sql, values)
        return rows[0][0] if rows else None

    def records(
        self, table: str, where: str = "true", values: Values | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Whole rows of a table in the order of its key, MOST or `limit` of them; `where` may end in another order."""
        found = self.rows(f"select doc, {self.hidden} from {table} where {where} limit {limit or MOST}", values)
        return [json.loads(doc) | json.loads(personal) for doc, personal in found]

    def frame(
        self, table: str, where: str = "true", values: Values | None = None, limit: int | None = None
    ) -> pd.DataFrame:
        """The records as a frame."""
        return pd.DataFrame(self.records(table, where, values, limit))


@st.cache_data(max_entries=256, show_spinner=False, ttl=3600)
def _asked(
    _read: Snapshot, generation: int, at: datetime, sql: str, bound: Sequence[tuple[str, Any]]
) -> list[tuple[Any, ...]]:
    """Kept by generation and when it was written: another one is asked anew."""
    return [tuple(row) for row in _read.rows(sql, dict(bound))]


def numbers(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """With those columns as floats; what is drawn need not be exact."""
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in columns if name in frame})


def times(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """With those columns as instants, UTC, without saying so: a chart would move them to where the reader lives."""
    return frame.assign(
        **{name: pd.to_datetime(frame[name], utc=True, errors="coerce", format="ISO8601").dt.tz_localize(None)
           for name in columns if name in frame}
    )  # fmt: skip
