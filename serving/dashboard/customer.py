"""One customer: who they are, what held at any instant, and everything that happened, in one line of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from serving.dashboard import data as asking
from serving.dashboard.data import Data, times
from serving.dashboard.parts import NONE, money, nothing, plain_label, table, whole

FOUND = 50
OLDER = "older ones are left out"
NOT_ATTRIBUTES = ("customer_key", "customer_id", "valid_from", "valid_to", "is_current", "change_type", "ended_by")


def page(data: Data) -> None:
    customer = _chosen(data)
    if customer is None:
        return
    now = data.frame("customers", "customer_id = :id", {"id": customer})
    # Newest first: of more than fit here the oldest are left out.
    told = data.records("customer_versions", "customer_id = :id order by valid_from desc", {"id": customer})
    versions = pd.DataFrame(told)
    moments = data.frame("customer_moments", "customer_id = :id order by happened_at desc", {"id": customer})
    if now.empty and versions.empty:
        nothing("No customer has this id.", "Ids are compared as they are written.")
        return
    _head(now)
    if not versions.empty:
        at = _instant(versions, moments)
        attributes, line = st.columns(2)
        with attributes:
            _attributes(told, now, at)
        with line:
            _line(versions, moments, at)
    # Only what is looked at is asked for and drawn.
    parts = ["History", "Orders, receipts, tickets", "What was stated"]
    history, happened, stated = st.tabs(parts, key="part", on_change="rerun")
    if history.open:
        with history:
            _history(versions)
    if happened.open:
        with happened:
            _happened(moments)
    if stated.open:
        with stated:
            _stated(data, customer)


def _history(versions: pd.DataFrame) -> None:
    if versions.empty:
        nothing("There is no version.", "")
    else:
        table(versions, "history", ("valid_from", "valid_to", *attributes_of(versions), "change_type"),
              time=("valid_from", "valid_to"), others=OLDER)  # fmt: skip


def _happened(moments: pd.DataFrame) -> None:
    if moments.empty:
        nothing("Nothing happened.", "No order, receipt or ticket names this customer.")
    else:
        table(moments, "moments", ("happened_at", "kind", "which", "state", "amount", "currency"),
              number=("amount",), time=("happened_at",), others=OLDER)  # fmt: skip


def _stated(data: Data, customer: str) -> None:
    newest = "event_time desc, op desc, nth desc"
    events = data.frame("customer_events", f"customer_id = :id order by {newest}", {"id": customer})
    if events.empty:
        nothing("Nothing that was stated of this customer stands.", "")
    else:
        table(events, "events", time=("event_time", "known_at"), others=OLDER)


def _chosen(data: Data) -> str | None:
    """The id that is asked for: in the address of the page, or found."""
    # Kept by its key: a field whose first value changes would be another field, and stand twice for a moment.
    asked = st.query_params.get("customer", "")
    st.session_state.setdefault("customer", asked)
    what = "Id, or the beginning of one" + ("; e-mail; last name" if data.personal else "")
    word = st.text_input("Customer", key="customer", placeholder=what).strip()
    if word != asked:
        st.query_params["customer"] = word
    found = _found(data, word)
    if not found:
        if word:
            nothing(
                "Nobody was found.",
                "An id is found by its beginning"
                + ("." if data.personal else "; to find names or addresses, start with --personal."),
            )
        else:
            nothing("There is no customer.", "Land a file of the feed `customers`, then run `c360 sync`.")
        return None
    if found[0] == word:
        return word
    chosen = st.selectbox(
        "Found",
        found,
        index=None if len(found) > 1 else 0,
        placeholder=f"Choose one of {len(found)}{'+' if len(found) == FOUND else ''}",
    )
    return str(chosen) if chosen is not None else None


def _found(data: Data, word: str) -> list[str]:
    """Ids, what is exactly so first; each of the questions has an index."""
    bounds = {"word": word, "beyond": word + "\U0010ffff"}
    found = [
        row[0]
        for row in data.rows(
            "select distinct customer_id from customer_versions where customer_id = :word", {"word": word}
        )
    ]
    if found:
        return found
    wheres = ["customer_id >= :word and customer_id < :beyond"]
    if data.personal and word:
        wheres += ["email = :word", "last_name >= :word and last_name < :beyond"]
    for where in wheres:
        found += [
            row[0]
            for row in data.rows(
                f"select customer_id from customers where {where} order by customer_id limit {FOUND}", bounds
            )
        ]
    return list(dict.fromkeys(found))[:FOUND]


def _head(now: pd.DataFrame) -> None:
    if now.empty:
        st.warning("This customer was deleted: there is a history, and no present.", icon=":material/person_off:")
        return
    told = now.iloc[0].to_dict()

    def known(name: str) -> Any:
        value = told.get(name)
        return None if value is None or pd.isna(value) else value

    risk, currency = known("churn_risk"), known("currency")
    of = f", {currency}" if currency else ""
    shown = (
        ("Orders and receipts", whole(known("count_orders"))),
        (f"Bought for{of}", money(known("gross_revenue"))),
        (f"On average{of}", money(known("average_order"))),
        ("Segment", str(known("segment") or NONE)),
        ("Churn risk", f"{float(risk):.0%}" if risk is not None else NONE),
        ("Open tickets", whole(known("count_open_tickets"))),
        ("Customer since", str(known("customer_since") or NONE)[:10]),
        ("Last seen", str(known("last_seen_at") or NONE)[:10]),
    )
    clicked = (
        ("Visits", whole(known("count_sessions"))),
        ("Pages seen", whole(known("count_page_views"))),
        ("Put into the cart", whole(known("count_carts"))),
        ("Last click", str(known("last_click_at") or NONE)[:10]),
    )
    for line in (shown[:4], shown[4:], *([clicked] if known("count_sessions") else [])):
        for place, (label, value) in zip(st.columns(4, border=True), line, strict=True):
            place.metric(label, value)


def _instant(versions: pd.DataFrame, moments: pd.DataFrame) -> datetime:
    """What the slider says; the end at first."""
    told = [*times(versions, "valid_from")["valid_from"], *times(versions, "valid_to")["valid_to"]]
    if not moments.empty:
        told += list(times(moments, "happened_at")["happened_at"])
    instants = [each.to_pydatetime() for each in told if not pd.isna(each)]
    if len(versions) >= asking.MOST:
        # What held before the oldest version that is here is not known here.
        instants = [each for each in instants if each >= told[len(versions) - 1]]
    first, last = min(instants).replace(microsecond=0), max(instants).replace(microsecond=0) + timedelta(seconds=1)
    step = max(timedelta(minutes=1), (last - first) / 1000)
    chosen: datetime = st.slider(
        "As of", first, max(last, first + timedelta(minutes=1)), last, step, "YYYY-MM-DD HH:mm",
        help="What held at that instant, UTC. The line of time shows where it stands.",
    )  # fmt: skip
    return chosen


def _attributes(versions: Sequence[Mapping[str, Any]], now: pd.DataFrame, at: datetime) -> None:
    """Of the version that held then, beside what is so now. `versions`: newest first."""
    version = next((each for each in versions if _instant_of(each["valid_from"]) <= at), None)
    if version is None or (version["valid_to"] and _instant_of(version["valid_to"]) <= at):
        nothing(f"At {at:%Y-%m-%d %H:%M} there was no such customer.", "Not yet, or deleted.")
        return
    current = now.iloc[0].to_dict() if not now.empty else {}
    told = [
        {"Attribute": plain_label(name), "Then": _cell(version[name]), "Now": _cell(current.get(name))}
        for name in version
        if name not in NOT_ATTRIBUTES
    ]
    shown = pd.DataFrame([row | {"Changed": bool(current) and row["Then"] != row["Now"]} for row in told])
    small = {"Changed": st.column_config.CheckboxColumn("Changed", width="small")}
    st.dataframe(shown, hide_index=True, width="stretch", height=35 * len(told) + 38, column_config=small)


def _instant_of(value: str) -> datetime:
    """UTC without saying so, as the slider has it."""
    return datetime.fromisoformat(value).replace(tzinfo=None)


def attributes_of(versions: pd.DataFrame) -> list[str]:
    return [name for name in versions if name not in NOT_ATTRIBUTES]


def _cell(value: Any) -> str:
    return NONE if value is None or value is pd.NaT or value != value else str(value)


def _line(versions: pd.DataFrame, moments: pd.DataFrame, at: datetime) -> None:
    dots = times(versions, "valid_from").rename(columns={"valid_from": "at"}).assign(kind="version")
    dots["text"] = dots.get("change_type", "")
    gone = times(versions, "valid_to").rename(columns={"valid_to": "at"})
    gone = gone[gone["ended_by"] == "delete"].assign(kind="deleted", text="") if "ended_by" in gone else gone.iloc[:0]
    parts = [dots[["at", "kind", "text"]], gone[["at", *(c for c in ("kind", "text") if c in gone)]]]
    if not moments.empty:
        happened = times(moments, "happened_at").rename(columns={"happened_at": "at"})
        happened["text"] = [
            " ".join(str(v) for v in row if v is not None and v == v)
            for row in happened[["which", "state", "amount", "currency"]].itertuples(index=False)
        ]
        parts.append(happened[["at", "kind", "text"]])
    parts.append(pd.DataFrame({"at": [at], "kind": [AS_OF], "text": [""]}))
    drawn = pd.concat([part for part in parts if not part.empty])
    st.vega_lite_chart(drawn, LINE, width="stretch")


# Written out: to build it of objects takes longer than to draw it.
AS_OF = "as of"
_AT = {"field": "at", "type": "temporal", "title": None}
LINE: dict[str, Any] = {
    "height": 260,
    "layer": [
        {
            "transform": [{"filter": f"datum.kind != '{AS_OF}'"}],
            "mark": {"type": "circle", "size": 90, "opacity": 0.75},
            "encoding": {
                "x": _AT,
                "y": {
                    "field": "kind", "type": "nominal", "title": None,
                    "sort": ["version", "deleted", "order", "receipt", "refund", "ticket"],
                },
                "color": {"field": "kind", "type": "nominal", "legend": None},
                "tooltip": [
                    {"field": "at", "type": "temporal", "title": "At", "format": "%Y-%m-%d %H:%M:%S"},
                    {"field": "kind", "type": "nominal"},
                    {"field": "text", "type": "nominal"},
                ],
            },
        },
        {
            "transform": [{"filter": f"datum.kind == '{AS_OF}'"}],
            "mark": {"type": "rule", "color": "#e15759", "strokeWidth": 2},
            "encoding": {"x": _AT},
        },
    ],
}  # fmt: skip
