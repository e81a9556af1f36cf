"""Segments and cohorts: who buys how, who went from where to where, and who comes back."""

from __future__ import annotations

from typing import Any

import altair as alt
import streamlit as st

from serving.dashboard.data import Data, numbers
from serving.dashboard.parts import nothing, table

# Pixels of a row, and up to how many cells a number stands in each.
ROW, LABELLED = 30, 400
ORDER = ("champion", "loyal", "new", "occasional", "at_risk", "lost")


def page(data: Data) -> None:
    counts = data.frame("segments")
    if counts.empty:
        nothing("Nobody has bought anything in the year.", "Segments come of orders and receipts that name a customer.")
        return
    left, right = st.columns([1, 4], vertical_alignment="bottom")
    currency = left.selectbox("Currency", sorted(counts["currency"].unique()))
    right.caption(f"By the year up to {counts['as_of_day'].max()}; currencies are never added up.")
    counts = counts[counts["currency"] == currency]
    segments, moves = st.columns(2)
    with segments:
        st.subheader("Segments")
        drawn = numbers(counts, "net_revenue")
        bars = (
            alt.Chart(drawn)
            .mark_bar()
            .encode(
                y=alt.Y("segment:N", sort=list(ORDER), title=None),
                x=alt.X("count_customers:Q", title="Customers"),
                color=alt.Color("segment:N", legend=None),
                tooltip=["segment:N", alt.Tooltip("count_customers:Q", title="Customers", format=","),
                         alt.Tooltip("net_revenue:Q", title="Net revenue", format=",.2f")],
            )
        )  # fmt: skip
        st.altair_chart(bars.properties(height=alt.Step(ROW)), width="stretch")
        table(
            counts, "segments", ("segment", "count_customers", "count_purchases", "net_revenue"),
            number=("count_customers", "count_purchases", "net_revenue"),
        )  # fmt: skip
    with moves:
        st.subheader("Moves")
        _moves(data, currency)
    st.subheader("Cohorts")
    _cohorts(data)
    st.subheader("Top customers")
    top = data.frame("top_customers", "currency = :currency", {"currency": currency})
    if top.empty:
        nothing("No customer has bought in this currency.", "")
        return
    table(
        top.sort_values(["revenue_rank", "customer_id"]), "top_customers",
        ("revenue_rank", "customer_id", "first_name", "last_name", "country", "count_purchases", "net_revenue",
         "last_bought_at"),
        number=("count_purchases", "net_revenue"), time=("last_bought_at",), height=320,
    )  # fmt: skip


def _moves(data: Data, currency: str) -> None:
    moves = data.frame("segment_moves", "currency = :currency", {"currency": currency})
    if moves.empty:
        nothing("Nobody is in another segment than thirty days before.", "")
        return
    cells = alt.Chart(moves).encode(
        y=alt.Y("segment_before:N", sort=[*ORDER, "none"], title="Thirty days before"),
        x=alt.X("segment:N", sort=[*ORDER, "none"], title="Now", axis=alt.Axis(labelAngle=0)),
    )
    shades = cells.mark_rect().encode(
        color=alt.Color("count_customers:Q", title="Customers", scale=alt.Scale(scheme="blues"), legend=None),
        tooltip=["segment_before:N", "segment:N", alt.Tooltip("count_customers:Q", title="Customers", format=",")],
    )
    dark = alt.datum.count_customers > int(moves["count_customers"].max()) / 2
    words = cells.mark_text().encode(text=alt.Text("count_customers:Q", format=","), color=_upon(dark))
    st.altair_chart((shades + words).properties(height=alt.Step(ROW)), width="stretch")
    table(moves, "segment_moves", ("segment_before", "segment", "count_customers"), number=("count_customers",))


def _cohorts(data: Data) -> None:
    cohorts = data.frame("cohorts")
    if cohorts.empty:
        nothing("There is no cohort.", "It takes a customer who has bought.")
        return
    cells = alt.Chart(cohorts.assign(month=cohorts["cohort_month"].str[:7])).encode(
        y=alt.Y("month:N", title="First purchase in"),
        x=alt.X("months_since:O", title="Months since", axis=alt.Axis(labelAngle=0)),
    )
    shades = cells.mark_rect().encode(
        color=alt.Color("retention:Q", title="Active", scale=alt.Scale(scheme="blues", domain=[0, 1]),
                        legend=alt.Legend(format=".0%")),
        tooltip=["month:N", "months_since:O", alt.Tooltip("retention:Q", title="Active", format=".1%"),
                 alt.Tooltip("count_active:Q", title="Customers", format=","),
                 alt.Tooltip("count_customers:Q", title="Of", format=",")],
    )  # fmt: skip
    words = cells.mark_text().encode(text=alt.Text("retention:Q", format=".0%"), color=_upon(alt.datum.retention > 0.5))
    drawn = shades + words if len(cohorts) <= LABELLED else shades
    st.altair_chart(drawn.properties(height=alt.Step(ROW)), width="stretch")
    with st.expander("As a table"):
        table(cohorts, "cohorts", number=("count_customers", "count_active", "retention"))


def _upon(dark: Any) -> Any:
    """The colour of words on a cell that is dark, or not."""
    return alt.condition(dark, alt.value("white"), alt.value("#1f2d3d"))
