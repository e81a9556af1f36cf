"""The dashboards on a million customers: seconds until a page is drawn in Chromium, turned to by a click, and opened anew.

    python -m bench.dashboard [--customers 1000000] [--times 5]

The store is SQLite, filled by the serving step itself from gold in DuckDB: three years of 50 stores, 200,000 products in stores, three
versions and four orders of each customer. Turned to: from the click in the list of pages until the page's last table is there and
nothing runs any more. Opened: by its address in a tab, Streamlit's own parts in the browser's cache, and in browsers of their own
without any, five at least; beside it a Streamlit page that says one word. The browser runs on the same two cores.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from bench.parts import home, report
from c360_assets import serve
from c360_assets.settings import Settings
from c360_assets.store import Change, Store
from c360_assets.warehouse import open_warehouse

PERSONAL = ("email", "first_name", "last_name", "phone", "street")
TABLES = {
    "vw_customer_360": """
        select 'C' || i as customer_id, 'City ' || hash(i) % 500 as city, 'Country ' || i % 30 as country, 'ann' || i || '@example.org' as email,
        'Ann' as first_name, 'Lee' || i as last_name, '+49 30 ' || i as phone, i || ' Long Street' as street, timestamp '2026-01-01' as valid_from,
        3 as count_versions, i % 20 as count_orders, 'EUR' as currency, cast(i % 999 as decimal(38, 4)) as gross_revenue,
        'loyal' as segment, timestamp '2026-06-01' as last_order_at, timestamp '2026-07-01' as last_seen_at
        from range({customers}) as r(i)""",
    "dim_customer": """
        select 'k' || i || '-' || v as customer_key, 'C' || i as customer_id, 'City ' || (i + v) % 500 as city,
          'ann' || i || '@example.org' as email, 'Ann' as first_name, 'Lee' || i as last_name,
          timestamp '2024-01-01' + to_days(300 * v) as valid_from,
          case when v < 2 then timestamp '2024-01-01' + to_days(300 * (v + 1)) end as valid_to,
          v = 2 as is_current, 'update' as change_type, case when v < 2 then 'change' end as ended_by
        from range({customers}) as c(i), range(3) as versions(v)""",
    "vw_customer_timeline": """
        select 'C' || i as customer_id, timestamp '2024-01-01' + to_days(300 * v) as event_time, 'upsert' as op, 1 as nth, md5(i || ' ' || v) as content,
          null as position, timestamp '2024-01-01' as known_at, 'City ' || (i + v) % 500 as city
        from range({customers}) as c(i), range(3) as versions(v)""",
    "vw_customer_moments": """
        select 'C' || i as customer_id, timestamp '2024-02-01' + to_days(200 * v) as happened_at, 'order' as kind, 'orders/' || i || '-' || v as which,
          'paid' as state, 'EUR' as currency, cast(i % 300 as decimal(38, 4)) as amount
        from range({customers}) as c(i), range(4) as orders(v)""",
    "daily_sales_summary": """
        select date '2024-01-01' + cast(d as integer) as sales_date, 'STORE_' || lpad(s::varchar, 3, '0') as store_id, 'EUR' as currency,
          40 as count_transactions, 90 as count_lines, cast(200 as decimal(38, 4)) as units_sold,
          cast(cast(hash(d * 50 + s) % 9000 as bigint) as decimal(38, 4)) as gross_revenue, cast(10 as decimal(38, 4)) as refunds,
          cast(cast(hash(d * 50 + s) % 9000 as bigint) - 10 as decimal(38, 4)) as net_revenue
        from range(1096) as days(d), range(50) as stores(s)""",
    "anomalies": """
        select sales_date, store_id, currency, net_revenue as actual, cast(4500 as decimal(38, 4)) as expected, 40 as count_days_before, 4.0 as score,
          'high' as direction from gold.daily_sales_summary where net_revenue > 8900""",
    "vw_stock": """
        select 'STORE_' || lpad(s::varchar, 3, '0') as store_id, 'P' || p as product_id, 'Product ' || p as product_name, 'Category ' || p % 40 as category_name,
          cast(cast(hash(p * 50 + s) % 900 as bigint) as decimal(38, 4)) as stock, cast(75 as decimal(38, 4)) as reorder_point,
          cast(hash(p * 50 + s) % 900 as bigint) < 75 as is_below_reorder_point, false as is_negative,
          cast(greatest(75 - cast(cast(hash(p * 50 + s) % 900 as bigint) as bigint), 0) as decimal(38, 4)) as units_short, cast(5 as decimal(38, 4)) as units_sold_lately,
          12.5 as days_left, timestamp '2026-01-01' as counted_at, timestamp '2026-06-01' as last_moved_at
        from range(4000) as products(p), range(50) as stores(s)""",
    "segment_counts": """
        select date '2026-12-31' as as_of_day, 'EUR' as currency, segment, 160000 as count_customers, 400000 as count_purchases,
          cast(12345678 as decimal(38, 4)) as net_revenue
        from (values ('champion'), ('loyal'), ('new'), ('occasional'), ('at_risk'), ('lost')) as s(segment)""",
    "segment_move_counts": """
        select 'EUR' as currency, one.segment as segment_before, other.segment, 1000 as count_customers
        from gold.segment_counts as one, gold.segment_counts as other where one.segment <> other.segment""",
    "cohort_retention": """
        select date '2024-01-01' + to_months(cast(m as integer)) as cohort_month, cast(n as integer) as months_since, 27000 as count_customers, 5000 as count_active, 1 / (1 + n / 3) as retention
        from range(36) as months(m), range(36) as later(n) where m + n < 36""",
    "top_customers": """
        select 'EUR' as currency, i + 1 as revenue_rank, 'C' || i as customer_id, 'Ann' as first_name, 'Lee' || i as last_name, 'a@example.org' as email,
          'Italy' as country, 9 as count_purchases, cast(9999 - i as decimal(38, 4)) as net_revenue, timestamp '2026-06-01' as last_bought_at from range(100) as c(i)""",
    "issue_counts": "select 'tie' as issue, 'warning' as severity, 'core.customer' as subject, 12 as count_issues, timestamp '2026-01-01' as last_noted_at",
    "feed_days": """
        select feed, date '2025-01-01' + cast(d as integer) as loaded_on, 24 as count_objects, 10000 as received, 9000 as accepted, 100 as quarantined, 900 as duplicates,
          timestamp '2025-01-01' + to_days(cast(d as integer)) as last_loaded_at
        from (values ('customers'), ('pos'), ('orders'), ('order_items'), ('products')) as f(feed), range(365) as days(d)""",
}  # fmt: skip
TITLES = {
    "Daily sales": "", "Inventory": "inventory", "Customer": "customer?customer=C4711", "Segments": "segments", "Data quality": "quality",
}  # fmt: skip


def fill(settings: Settings, customers: int) -> None:
    with open_warehouse(settings).writing("bench") as session:
        session.execute("create schema gold")
        session.execute("create table gold.consumed_batches (model varchar, batch varchar)")
        for name, sql in TABLES.items():
            session.execute(f"create table gold.{name} as {sql.format(customers=customers)}")
    sources = serve.sources(PERSONAL)
    checks = [{"asset": f"core/a{n}", "name": "holds", "status": "passed", "at": None} for n in range(200)]
    serve.serve(
        sources,
        sources,
        open_warehouse(settings),
        Store(settings.serving_url),
        [Change(serve.CHECKS, checks, anew=True)],
    )


# Browsers without a cache, at least: one alone tells little.
FRESH = 5
DRAWN = "!document.querySelector('[data-testid=stStatusWidget]')"


def opened(context: Any, address: str, what: str = "stDownloadButton") -> float:
    page = context.new_page()
    began = time.perf_counter()
    page.goto(address)
    page.get_by_test_id(what).or_(page.get_by_test_id("stSelectbox")).first.wait_for(timeout=60_000)
    page.wait_for_function(DRAWN, timeout=60_000)
    took = time.perf_counter() - began
    assert page.get_by_test_id("stException").count() == 0
    page.close()
    return took


def in_tabs(browser: Any, address: str, times: int, what: str = "stDownloadButton") -> dict[str, Any]:
    """In a browser without a cache, and then in a further tab of it; again and again."""
    first, others = [], []
    for _ in range(max(times, FRESH)):
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        first.append(opened(context, address, what))
        others.append(opened(context, address, what))
        context.close()
    return {"opened": told(others), "opened without a cache": told(first)}


def told(times: list[float]) -> dict[str, float]:
    return {"median s": round(statistics.median(times), 2), "worst s": round(max(times), 2)}


def turned(page: Any, title: str, away: str) -> float:
    """From the click; the page before it is another one, and settled."""
    pages = page.get_by_test_id("stSidebarNav")
    pages.get_by_text(away, exact=True).click()
    page.get_by_role("heading", name=away, exact=True, level=1).wait_for()
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(500)
    began = time.perf_counter()
    pages.get_by_text(title, exact=True).click()
    page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
    page.get_by_test_id("stDownloadButton").or_(page.get_by_test_id("stSelectbox")).first.wait_for(timeout=60_000)
    page.wait_for_function(DRAWN, timeout=60_000)
    return time.perf_counter() - began


def asked(page: Any, customer: str) -> float:
    """From the return key in the field for the customer until their slider is there and nothing runs."""
    field = page.get_by_placeholder("Id, or the beginning of one")
    field.fill(customer)
    page.wait_for_timeout(300)
    began = time.perf_counter()
    page.keyboard.press("Enter")
    page.get_by_text(f"customer={customer}").or_(page.get_by_test_id("stSlider")).first.wait_for()
    page.wait_for_timeout(50)
    page.wait_for_function(DRAWN, timeout=60_000)
    return time.perf_counter() - began


@contextmanager
def serving(*command: str | Path, port: int, **environment: str) -> Iterator[None]:
    server = subprocess.Popen(
        [*map(str, command)],
        env={"PATH": "/usr/bin:/bin", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health").close()
                break
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait(20)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="c360-bench-"))
    settings = home(folder)
    began = time.perf_counter()
    fill(settings, options.customers)
    print(f"{options.customers:,} customers served in {time.perf_counter() - began:.0f} s")
    c360 = Path(sys.executable).with_name("c360")
    plain = folder / "plain.py"
    plain.write_text("import streamlit as st\nst.title('A word')\nst.selectbox('x', ['y'])\n")
    rows: dict[str, Any] = {}

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        port = free_port()
        with serving(c360, "dashboard", "--port", str(port), "--personal", port=port, C360_HOME=str(settings.home)):
            address = f"http://127.0.0.1:{port}"
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(address)
            page.get_by_role("heading", name="Daily sales").wait_for(timeout=60_000)
            for title in TITLES:
                away = "Inventory" if title != "Inventory" else "Segments"
                rows[title] = {"turned to": told([turned(page, title, away) for _ in range(options.times)])}
            turned(page, "Customer", "Inventory")
            rows["Customer"]["asked for another"] = told(
                [asked(page, f"C{4711 * n}") for n in range(1, options.times + 1)]
            )
            page.close()
            for title, path in TITLES.items():
                rows[title] |= in_tabs(browser, f"{address}/{path}", options.times)
        port = free_port()
        with serving(
            sys.executable, "-m", "streamlit", "run", plain, "--server.port", str(port), "--server.headless", "true",
            "--browser.gatherUsageStats", "false", port=port, HOME=str(folder),
        ):  # fmt: skip
            rows["a page that says one word"] = in_tabs(
                browser, f"http://127.0.0.1:{port}", options.times, "stSelectbox"
            )
        browser.close()
    shutil.rmtree(folder)
    report("dashboard", rows)


if __name__ == "__main__":
    main()
