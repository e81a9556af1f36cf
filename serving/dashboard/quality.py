"""Data quality: what came in and what was refused, what the checks say, and what somebody may have to look at."""

from __future__ import annotations

from collections.abc import Callable

import altair as alt
import pandas as pd
import streamlit as st

from serving.dashboard.data import Data, numbers
from serving.dashboard.parts import nothing, table, whole

FATES = ("accepted", "duplicates", "quarantined")
COLOURS = ("#4e79a7", "#bab0ac", "#e15759")
# Days in the chart, the last ones; the table beneath it has them all.
SHOWN = 90
WORST_FIRST = {"failed": 0, "warns": 1, "never run": 2, "passed": 3}


def page(data: Data) -> None:
    checks = data.frame("checks")
    counts = checks["status"].value_counts() if not checks.empty else pd.Series(dtype=int)
    for place, (label, status) in zip(
        st.columns(4, border=True),
        (
            ("Checks failed", "failed"),
            ("Checks that warn", "warns"),
            ("Checks passed", "passed"),
            ("Never run", "never run"),
        ),
        strict=True,
    ):
        place.metric(label, whole(counts.get(status, 0)))
    shown: dict[str, Callable[[], None]] = {
        "What came in": lambda: _feeds(data.frame("feed_days")),
        "Checks": lambda: _checks(checks),
        "Issues": lambda: _issues(data.frame("issues")),
        "How long it takes": lambda: _seconds(data.frame("stage_seconds")),
    }
    # What nobody looks at is neither asked nor drawn.
    for place, draw in zip(st.tabs(list(shown), on_change="rerun", key="view"), shown.values(), strict=True):
        if place.open:
            with place:
                draw()


def _issues(issues: pd.DataFrame) -> None:
    if issues.empty:
        nothing("There is nothing to look at.", "")
        return
    ordered = issues.sort_values(["severity", "count_issues"], ascending=[True, False])
    table(ordered, "issues", number=("count_issues",), time=("last_noted_at",))
    st.caption("Each of them: `c360 query \"select * from gold.issue_log where issue = '...'\"`")


def _feeds(days: pd.DataFrame) -> None:
    if days.empty:
        nothing("No object has come.", "`c360 land FILE --feed NAME`, then `c360 sync`.")
        return
    chosen = st.multiselect("Feeds", sorted(days["feed"].unique()), placeholder="All feeds")
    days = days[days["feed"].isin(chosen)] if chosen else days
    lately = sorted(days["loaded_on"].unique())[-SHOWN:]
    summed = numbers(days[days["loaded_on"].isin(lately)], *FATES).groupby("loaded_on")[list(FATES)].sum()
    drawn = summed.reset_index().melt(["loaded_on"], list(FATES), "fate", "records")
    bars = (
        alt.Chart(drawn)
        .mark_bar(size=min(40, 600 // drawn["loaded_on"].nunique()))
        .encode(
            x=alt.X("loaded_on:O", title="Loaded on", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("records:Q", title="Records"),
            color=alt.Color("fate:N", title=None, scale=alt.Scale(domain=list(FATES), range=list(COLOURS))),
            tooltip=["loaded_on:O", "fate:N", alt.Tooltip("records:Q", title="Records", format=",")],
        )
    )
    st.altair_chart(bars, width="stretch")
    counted = ("count_objects", "received", *FATES)
    totals = (
        numbers(days, *counted)
        .groupby("feed")
        .agg(dict.fromkeys(counted, "sum") | {"last_loaded_at": "max"})
        .reset_index()
    )
    totals["refused"] = (totals["quarantined"] / totals["received"]).fillna(0)
    share = st.column_config.ProgressColumn("Refused", format="percent", min_value=0, max_value=1)
    table(totals, "feeds", number=counted, time=("last_loaded_at",), config={"refused": share})


def _seconds(stages: pd.DataFrame) -> None:
    if stages.empty:
        nothing("The worker has brought nothing in the last hour.", "`c360 worker`, or `make up`.")
        return
    told = numbers(stages, "p50", "p95", "p99").sort_values(["feed", "p50"])
    table(told, "seconds", ("feed", "stage", "p50", "p95", "p99", "batches", "objects"))
    st.caption("Seconds since the object landed, in the last hour before this was served.")


def _checks(checks: pd.DataFrame) -> None:
    if checks.empty:
        nothing("No check has run.", "`c360 sync` runs them with what they check.")
        return
    wanted = st.segmented_control("Status", list(WORST_FIRST), selection_mode="multi", default=["failed", "warns"])
    shown = checks[checks["status"].isin(wanted)] if wanted else checks
    if shown.empty:
        st.success("No check failed, and none warns.", icon=":material/check_circle:")
        return
    ordered = shown.assign(_place=shown["status"].map(WORST_FIRST)).sort_values(["_place", "asset", "name"])
    table(ordered.drop(columns="_place"), "checks", ("status", "asset", "name", "at"), time=("at",), height=480)
