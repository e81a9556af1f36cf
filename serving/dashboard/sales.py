"""Daily sales: what the tills of each store took, and the days on which that was not what was to be expected."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from serving.dashboard.data import Data, numbers
from serving.dashboard.parts import money, nothing, table, whole

SUMMED = ("count_transactions", "count_lines", "units_sold", "gross_revenue", "refunds", "net_revenue")
SHOWN_AT_FIRST = 90
LINES = 12
PERIODS = {"Day": "D", "Week": "W-MON", "Month": "MS"}


def page(data: Data) -> None:
    first, last = data.rows("select min(sales_date), max(sales_date) from daily_sales")[0]
    if not first:
        nothing("No till has sold anything.", "Land receipts of the feed `pos`, then run `c360 sync`.")
        return
    chosen = _filters(data, date.fromisoformat(first), date.fromisoformat(last))
    if chosen is None:
        return
    (since, until), stores, currency, period = chosen
    rows = _rows(data, since, until, stores, currency)
    if rows.empty:
        nothing("No sales fit these filters.", "Choose other days or stores.")
        return
    _metrics(
        rows, _rows(data, since - (until - since) - timedelta(1), since - timedelta(1), stores, currency), currency
    )
    _chart(data, rows, period, stores, currency)
    st.subheader("Days")
    ordered = rows.sort_values(["sales_date", "store_id"], ascending=[False, True])
    table(ordered, "daily_sales", number=SUMMED, height=320)


def _filters(data: Data, first: date, last: date) -> tuple[tuple[date, date], list[str], str, str] | None:
    days, where, money_of, by = st.columns([3, 3, 1, 2])
    begin = max(first, last - timedelta(SHOWN_AT_FIRST - 1))
    span: Any = days.date_input("Days", (begin, last), min_value=first, max_value=last)
    stores = [row[0] for row in data.rows("select distinct store_id from daily_sales order by store_id")]
    currencies = [
        row[0]
        for row in data.rows("select currency from daily_sales group by currency order by count(*) desc, currency")
    ]
    chosen = where.multiselect("Stores", stores, placeholder="All stores")
    currency = money_of.selectbox("Currency", currencies)
    period = by.segmented_control("By", list(PERIODS), default="Day") or "Day"
    if not isinstance(span, tuple) or len(span) < 2:
        st.caption("Choose the last day too.")
        return None
    return (span[0], span[1]), chosen, currency, period


def _rows(data: Data, since: date, until: date, stores: list[str], currency: str) -> pd.DataFrame:
    days = {"since": since.isoformat(), "until": until.isoformat(), "currency": currency}
    names = {f"store_{n}": store for n, store in enumerate(stores)}
    among = f" and store_id in ({', '.join(f':{name}' for name in names)})" if names else ""
    return data.frame(
        "daily_sales",
        f"sales_date >= :since and sales_date <= :until and currency = :currency{among} order by sales_date, store_id",
        days | names,
        limit=200_000,
    )


def _metrics(rows: pd.DataFrame, before: pd.DataFrame, currency: str) -> None:
    now, then = numbers(rows, *SUMMED), numbers(before, *SUMMED)
    for place, (label, column) in zip(
        st.columns(4, border=True),
        ((f"Net revenue, {currency}", "net_revenue"), ("Receipts", "count_transactions"), ("Units", "units_sold"),
         (f"Refunds, {currency}", "refunds")),
        strict=True,
    ):  # fmt: skip
        total = float(now[column].sum())
        earlier = float(then[column].sum()) if column in then else 0.0
        change = f"{(total - earlier) / earlier:+.1%}" if earlier else None
        shown = money(total) if column in ("net_revenue", "refunds") else whole(total)
        colour: Any = "inverse" if column == "refunds" else "normal"
        place.metric(label, shown, change, delta_color=colour, help="Beside it: the change to as many days before.")


def _chart(data: Data, rows: pd.DataFrame, period: str, stores: list[str], currency: str) -> None:
    drawn = numbers(rows, "net_revenue").assign(day=pd.to_datetime(rows["sales_date"]))
    several = drawn["store_id"].nunique() <= LINES
    by = [
        pd.Grouper(key="day", freq=PERIODS[period], **({} if period == "Day" else {"label": "left", "closed": "left"}))
    ]
    summed = drawn.groupby([*by, "store_id"] if several else by)["net_revenue"].sum().reset_index()
    if not several:
        summed["store_id"] = "all stores"
    lines = (
        alt.Chart(summed)
        .mark_line(point=len(summed) < 200)
        .encode(
            x=alt.X("day:T", title=None),
            y=alt.Y("net_revenue:Q", title=f"Net revenue, {currency}"),
            color=alt.Color("store_id:N", title="Store"),
            tooltip=[alt.Tooltip("day:T", title=period), alt.Tooltip("store_id:N", title="Store"),
                     alt.Tooltip("net_revenue:Q", title="Net revenue", format=",.2f")],
        )
    )  # fmt: skip
    odd = _anomalies(data, rows, stores, currency)
    if odd.empty or period != "Day" or not several:
        st.altair_chart(lines, width="stretch")
    else:
        points = (
            alt.Chart(numbers(odd, "actual", "expected", "score").assign(day=pd.to_datetime(odd["sales_date"])))
            .mark_point(size=160, color="#d62728", shape="diamond", strokeWidth=2)
            .encode(
                x="day:T", y="actual:Q",
                tooltip=["day:T", "store_id:N", alt.Tooltip("actual:Q", format=",.2f"),
                         alt.Tooltip("expected:Q", format=",.2f"), "score:Q"],
            )
        )  # fmt: skip
        st.altair_chart(lines + points, width="stretch")
    if odd.empty:
        st.caption("No day was unlike the same weekdays before it.")
        return
    with st.expander(
        f"{len(odd)} {'day' if len(odd) == 1 else 'days'} unlike the same weekdays before them",
        icon=":material/priority_high:",
    ):
        table(
            odd, "anomalies", ("sales_date", "store_id", "actual", "expected", "score", "direction"),
            number=("actual", "expected", "score"),
        )  # fmt: skip


def _anomalies(data: Data, rows: pd.DataFrame, stores: list[str], currency: str) -> pd.DataFrame:
    odd = data.frame(
        "anomalies", "sales_date >= :since and sales_date <= :until and currency = :currency",
        {"since": rows["sales_date"].min(), "until": rows["sales_date"].max(), "currency": currency},
    )  # fmt: skip
    return odd if odd.empty or not stores else odd[odd["store_id"].isin(stores)]
