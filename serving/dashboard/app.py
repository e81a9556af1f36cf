"""The dashboards: `c360 dashboard` runs this file with Streamlit.

Belongs here: which pages there are, what stands beside every page, and what is said where nothing is served.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import streamlit as st

from c360_assets.settings import Settings
from c360_assets.store import Snapshot, Store, StoreRefused
from serving.dashboard import customer, quality, sales, segments, stock
from serving.dashboard.data import Data

PAGES: dict[str, tuple[str, str, Callable[[Data], None]]] = {
    "sales": ("Daily sales", ":material/show_chart:", sales.page),
    "inventory": ("Inventory", ":material/inventory_2:", stock.page),
    "customer": ("Customer", ":material/person_search:", customer.page),
    "segments": ("Segments", ":material/groups:", segments.page),
    "quality": ("Data quality", ":material/fact_check:", quality.page),
}


@st.cache_resource
def _store(url: str) -> Store:
    return Store(url)


def _shown(title: str, page: Callable[[Data], None]) -> Callable[[], None]:
    def run() -> None:
        st.title(title)
        try:
            # All that the page asks is of one generation, over one connection.
            with _store(Settings.load().serving_url).snapshot() as read:
                data = _data(read)
                if data is not None:
                    page(data)
        except StoreRefused as error:
            st.error(f"The serving store does not answer: {error}", icon=":material/error:")

    return run


def _data(read: Snapshot) -> Data | None:
    """What is served now; says so where nothing is."""
    served = read.served()
    if served is None:
        st.info("Nothing is served yet: `c360 sync` brings what gold holds.", icon=":material/inbox:")
        return None
    personal = "--personal" in sys.argv[1:]
    with st.sidebar:
        st.caption(f"Served {served.at:%Y-%m-%d %H:%M:%S} UTC, generation {served.generation}")
        st.caption(f"Newest batch {served.batch or 'unknown'}")
        if not personal:
            st.caption("Personal data is masked.")
    return Data(read, served, personal)


st.set_page_config("c360", page_icon=":material/hub:", layout="wide")
st.navigation(
    [
        st.Page(_shown(title, page), title=title, icon=icon, url_path=path, default=path == "sales")
        for path, (title, icon, page) in PAGES.items()
    ]
).run()
