"""Inventory: what there is of each product in each store, and what has to be reordered."""

from __future__ import annotations

from typing import Any

import streamlit as st

from c360_assets.store import literal
from serving.dashboard.data import Data
from serving.dashboard.parts import nothing, table, whole

AMOUNTS = ("stock", "reorder_point", "units_short", "units_sold_lately", "days_left", "counted_quantity")


def page(data: Data) -> None:
    total = data.value("select count(*) from stock")
    if not total:
        nothing("No product has a stock.", "It comes of receipts and stock counts: the feeds `pos` and `stock_counts`.")
        return
    low = data.value("select count(*) from stock where is_below_reorder_point = 'True'")
    stores = [row[0] for row in data.rows("select distinct store_id from stock order by store_id")]
    for place, (label, count) in zip(
        st.columns(3, border=True),
        (("Products in stores", total), ("Below the reorder point", low), ("Stores", len(stores))),
        strict=True,
    ):
        place.metric(label, whole(count))
    where, what, only = st.columns([2, 3, 2], vertical_alignment="bottom")
    store = where.selectbox("Store", stores, index=None, placeholder="All stores")
    word = what.text_input("Product", placeholder="Part of its id, name or category").strip().lower()
    to_reorder = only.toggle("Only what to reorder", value=True)
    condition, values = "true", {}
    if to_reorder:
        condition += " and is_below_reorder_point = 'True'"
    if store is not None:
        condition, values = condition + " and store_id = :store", {"store": store}
    if word:
        # The row as text has the word, or its value has not: what is left is looked at column by column.
        condition, values = (
            condition + " and lower(doc) like :word escape '!'",
            values | {"word": f"%{literal(word)}%"},
        )
    # The store puts the most wanting first: of more than fit here the others are left out.
    wanting = "is_below_reorder_point desc, units_short desc, store_id, product_id"
    rows = data.frame("stock", f"{condition} order by {wanting}", values)
    if word and not rows.empty:
        told: Any = rows[["product_id", "product_name", "category_name"]].fillna("").agg(" ".join, axis=1)
        rows = rows[told.str.lower().str.contains(word, regex=False)]
    if rows.empty:
        nothing("Nothing fits.", "Take a filter away." if word or store or to_reorder else "")
        return
    table(
        rows, "inventory",
        ("store_id", "product_id", "product_name", "category_name", "stock", "units_short", "units_sold_lately",
         "days_left", "counted_at", "last_moved_at"),
        number=AMOUNTS, time=("counted_at", "last_moved_at"),
        labels={"units_short": "To reorder", "units_sold_lately": "Sold in 28 days", "days_left": "Days left"},
        height=560,
    )  # fmt: skip
