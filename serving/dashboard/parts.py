"""Pieces that all pages have: a table that can be taken along, a note where there is nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from serving.dashboard.data import MOST, numbers, times

# Where there is no value.
NONE = "\N{EN DASH}"


def nothing(what: str, remedy: str) -> None:
    """An empty state: what is not there, and what would bring it."""
    st.info(f"{what} {remedy}", icon=":material/inbox:")


def table(
    frame: pd.DataFrame,
    name: str,
    columns: Sequence[str] = (),
    *,
    number: Sequence[str] = (),
    time: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    height: int | None = None,
    others: str = "narrow it down to see others",
) -> None:
    """The frame's `columns` as a table, and all of it, exact, as a file `name`.csv. `others`: of rows beyond MOST."""
    there = [column for column in columns or frame.columns if column in frame]
    shown = times(numbers(frame[there], *number), *time)
    told: dict[str, Any] = {column: plain_label(column) for column in there} | dict(labels or {})
    told |= {
        column: st.column_config.NumberColumn(told[column], format="localized") for column in number if column in there
    }
    told |= {
        column: st.column_config.DatetimeColumn(told[column], format="YYYY-MM-DD HH:mm:ss")
        for column in time if column in there
    }  # fmt: skip
    sized: Any = {} if height is None else {"height": height}
    st.dataframe(shown, hide_index=True, width="stretch", column_config=told | dict(config or {}), **sized)
    beside, button = st.columns([4, 1], vertical_alignment="center")
    more = f"The first {MOST:,} rows; {others}." if len(frame) >= MOST else f"{len(frame):,} rows"
    beside.caption(more)
    button.download_button(
        "CSV", frame.to_csv(index=False), f"{name}.csv", "text/csv", icon=":material/download:", width="stretch",
        key=f"csv {name}", help=f"All columns of these rows as {name}.csv",
    )  # fmt: skip


def plain_label(column: str) -> str:
    """A column's name as one reads it."""
    return column.replace("count_", "").replace("_", " ").capitalize()


def money(value: float | str | None) -> str:
    return NONE if value is None or pd.isna(value) else f"{float(value):,.2f}"


def whole(value: float | str | None) -> str:
    return NONE if value is None or pd.isna(value) else f"{float(value):,.0f}"
