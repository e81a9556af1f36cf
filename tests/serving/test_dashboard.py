"""The dashboards: each page with nothing, with something, with filters; and, in Chromium, clicked through on a real home."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from c360_assets import serve
from c360_assets.store import Change
from tests.parts import free_port
from tests.serving.conftest import PERSONAL, TABLES, Gold, customer

testing = pytest.importorskip("streamlit.testing.v1", reason="streamlit is not installed (extra dashboard)")
PAGES = ("sales", "stock", "customer", "segments", "quality")
C360 = Path(sys.executable).with_name("c360")


def shown(gold: Gold, name: str, *, personal: bool = False, **asked: str) -> Any:
    """The page as it is first shown."""

    def script(url: str, name: str, personal: bool) -> None:
        import importlib

        from c360_assets.store import Store
        from serving.dashboard.data import Data

        with Store(url).snapshot() as read:
            served = read.served()
            assert served is not None
            importlib.import_module(f"serving.dashboard.{name}").page(Data(read, served, personal))

    url = gold.store.url.render_as_string(hide_password=False)
    page = testing.AppTest.from_function(
        script, default_timeout=60, kwargs={"url": url, "name": name, "personal": personal}
    )
    for parameter, value in asked.items():
        page.query_params[parameter] = value
    return sound(page.run())


def sound(page: Any) -> Any:
    assert not page.exception, page.exception[0].message
    return page


def told(page: Any) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def fill(gold: Gold) -> None:
    gold.put("vw_customer_360", customer(1, "Oslo"), customer(2))
    gold.put(
        "dim_customer",
        ("k1", "C001", "Ann", "Lee1", "c1@example.org", "Ulm", "2026-01-01 00:00:00", "2026-02-01 00:00:00"),
        ("k2", "C001", "Ann", "Lee1", "c1@example.org", "Rome", "2026-02-01 00:00:00", "2026-03-01 00:00:00"),
        ("k3", "C001", "Ann", "Lee1", "c1@example.org", "Oslo", "2026-04-01 00:00:00", None),
        ("k4", "C002", "Bo", "Lee2", "c2@example.org", "Ulm", "2026-01-01 00:00:00", None),
        ("k5", "C003", "Cy", "Gone", "c3@example.org", "Bern", "2026-01-01 00:00:00", "2026-02-01 00:00:00"),
    )
    gold.put("vw_customer_moments", ("C001", "2026-02-10 10:00:00", "order", "orders/1", "paid", "EUR", "10.5000"))
    gold.put(
        "daily_sales_summary",
        *((f"2026-01-{day:02}", store, "EUR", f"{day}.0000", "0.0000", "2.0000", 1) for day in range(1, 29) for store in ("S1", "S2")),
        ("2026-01-28", "S3", "USD", "7.0000", "1.0000", "2.0000", 1),
    )  # fmt: skip
    gold.put("anomalies", ("2026-01-28", "S1", "EUR", "28.0000", "14.0000", 5.0, "high"))
    gold.put(
        "vw_stock",
        ("S1", "P1", "Lamp 100%", "Light", "5.0000", "70.0000", True),
        ("S1", "P2", "Chair", "Living", "-2.0000", "77.0000", True),
        ("S2", "P1", "Lamp 100%", "Light", "90.0000", "0.0000", False),
    )
    gold.put(
        "segment_counts",
        ("2026-01-28", "EUR", "champion", 3, 9, "99.0000"),
        ("2026-01-28", "USD", "lost", 1, 1, "1.0000"),
    )
    gold.put("segment_move_counts", ("EUR", "new", "champion", 2))
    gold.put("cohort_retention", ("2026-01-01", 0, 4, 4, 1.0), ("2026-01-01", 1, 4, 1, 0.25))
    gold.put("top_customers", ("EUR", 1, "C001", "Ann", "Lee1", "c1@example.org", "99.0000"))
    gold.put("issue_counts", ("tie", "warning", "core.customer", 3))
    gold.put(
        "feed_days",
        ("customers", "2026-01-01", 2, 100, 90, 4, 6, datetime(2026, 1, 1, 12)),
        ("pos", "2026-01-02", 1, 10, 10, 0, 0, datetime(2026, 1, 2, 12)),
    )
    gold.serve()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_without_anything_says_what_would_bring_it(gold: Gold, name: str) -> None:
    gold.serve()
    page = shown(gold, name)
    assert (page.info and not page.dataframe) or name == "quality"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_tables_where_gold_has_few_and_a_lap_served_first(gold: Gold, name: str) -> None:
    kept = ("consumed_batches", "vw_customer_360", "vw_real_time")
    gold.execute(*(f"drop table gold.{table}" for table in TABLES if table not in kept))
    served = serve.sources(PERSONAL)
    serve.serve(served, [each for each in served if each.shape == serve.REAL_TIME], gold.warehouse, gold.store)
    page = shown(gold, name)
    assert page.info and not page.error and not page.exception


@pytest.mark.parametrize("name", PAGES)
def test_a_page_with_something_shows_it(gold: Gold, name: str) -> None:
    fill(gold)
    page = shown(gold, name, customer="C001")
    assert page.dataframe


def test_sales_are_summed_over_what_the_filters_leave(gold: Gold) -> None:
    fill(gold)
    page = shown(gold, "sales")
    assert told(page)["Net revenue, EUR"] == "812.00" and told(page)["Receipts"] == "56"
    page.multiselect[0].select("S2")
    assert told(sound(page.run()))["Net revenue, EUR"] == "406.00"
    page.date_input[0].set_value((datetime(2026, 1, 3).date(), datetime(2026, 1, 4).date()))
    narrowed = sound(page.run())
    assert told(narrowed)["Net revenue, EUR"] == "7.00"
    # As many days before had 1 + 2.
    assert narrowed.metric[0].delta == "+133.3%"
    page.selectbox[0].select("USD")
    assert sound(page.run()).info


def test_stock_is_filtered_and_what_lacks_most_is_first(gold: Gold) -> None:
    fill(gold)
    page = shown(gold, "stock")
    assert told(page) == {"Products in stores": "3", "Below the reorder point": "2", "Stores": "2"}
    assert list(page.dataframe[0].value["product_id"]) == ["P2", "P1"]
    page.toggle[0].set_value(False)
    page.text_input[0].set_value("lamp 100%")
    assert list(sound(page.run()).dataframe[0].value["store_id"]) == ["S1", "S2"]
    page.text_input[0].set_value("l_mp")
    assert not sound(page.run()).dataframe


def test_a_customer_as_of_an_instant(gold: Gold) -> None:
    fill(gold)
    page = shown(gold, "customer", customer="C001")

    def city() -> tuple[str, str]:
        told = page.dataframe[0].value
        row = told[told["Attribute"] == "City"].iloc[0]
        return row["Then"], row["Now"]

    assert city() == ("Oslo", "Oslo")
    page.slider[0].set_value(datetime(2026, 2, 2))
    sound(page.run())
    assert city() == ("Rome", "Oslo")
    page.slider[0].set_value(datetime(2026, 3, 15))
    sound(page.run())
    assert any("no such customer" in info.value for info in page.info)


def test_a_customer_who_clicked_shows_it(gold: Gold) -> None:
    fill(gold)
    named = {"count_sessions": 3, "count_page_views": 1200, "count_carts": 2}
    for name, count in named.items():
        gold.execute(
            f"alter table gold.vw_customer_360 add column {name} bigint",
            f"update gold.vw_customer_360 set {name} = {count} where customer_id = 'C001'",
        )
    gold.serve()
    seen = told(shown(gold, "customer", customer="C001"))
    assert (seen["Visits"], seen["Pages seen"], seen["Put into the cart"]) == ("3", "1,200", "2")
    assert "Visits" not in told(shown(gold, "customer", customer="C002"))


@pytest.mark.parametrize("gold", ["sqlite"], indirect=True)
def test_of_more_than_fit_the_oldest_and_the_least_wanting_are_left_out(
    gold: Gold, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.dashboard import data, parts

    fill(gold)
    gold.put("vw_customer_moments", ("C001", "2026-05-01 10:00:00", "order", "orders/2", "paid", "EUR", "9.0000"),
             ("C001", "2026-04-01 10:00:00", "order", "orders/3", "paid", "EUR", "100.0000"))  # fmt: skip
    # As text 9 would come after 77.
    gold.put("vw_stock", ("S0", "P9", "Table", "Living", "66.0000", "9.0000", True))
    gold.serve()
    for module in (data, parts):
        monkeypatch.setattr(module, "MOST", 2)
    page = shown(gold, "customer", customer="C001")
    versions = page.dataframe[1].value
    assert list(versions["city"]) == ["Oslo", "Rome"]
    assert any("older ones are left out" in caption.value for caption in page.caption)
    assert page.slider[0].min == datetime(2026, 2, 1, tzinfo=UTC).timestamp() * 1e6
    page.session_state["part"] = "Orders, receipts, tickets"
    assert list(sound(page.run()).dataframe[1].value["which"]) == ["orders/2", "orders/3"]
    assert list(shown(gold, "stock").dataframe[0].value["product_id"]) == ["P2", "P1"]
    monkeypatch.setattr(data, "MOST", 3)
    assert list(shown(gold, "stock").dataframe[0].value["product_id"]) == ["P2", "P1", "P9"]


def test_persons_are_masked_unless_it_is_said(gold: Gold) -> None:
    fill(gold)
    for name in ("customer", "segments"):
        masked = "".join(str(frame.value) for frame in shown(gold, name, customer="C001").dataframe)
        plain = "".join(str(frame.value) for frame in shown(gold, name, customer="C001", personal=True).dataframe)
        assert "Lee1" not in masked and "***" in masked and "Lee1" in plain


def test_a_customer_is_found_by_what_one_may_see(gold: Gold) -> None:
    fill(gold)
    for word, wanted in (("C00", ["C001", "C002"]), ("", ["C001", "C002"])):
        assert list(shown(gold, "customer", customer=word).selectbox[0].options) == wanted
    assert shown(gold, "customer", customer="Lee").info
    assert list(shown(gold, "customer", customer="Lee", personal=True).selectbox[0].options) == ["C001", "C002"]
    assert told(shown(gold, "customer", customer="c2@example.org", personal=True))
    gone = shown(gold, "customer", customer="C003")
    assert "deleted" in gone.warning[0].value and gone.slider


def test_quality_shows_the_worst_first(gold: Gold) -> None:
    fill(gold)
    page = shown(gold, "quality")
    assert told(page)["Checks failed"] == "1"
    totals = page.dataframe[0].value.set_index("feed")
    assert list(totals["received"]) == [100, 10] and list(totals["refused"]) == [0.04, 0.0]


@pytest.mark.parametrize(("tab", "shown_there"), [("Checks", "one_row_per_key"), ("Issues", "tie"), ("How long it takes", "clickstream")])  # fmt: skip
def test_each_tab_of_quality_shows_what_it_has_and_says_where_that_is_nothing(
    gold: Gold, tab: str, shown_there: str
) -> None:
    fill(gold)
    page = shown(gold, "quality")
    page.session_state["view"] = tab
    sound(page.run())
    assert shown_there in page.dataframe[0].value.to_string()
    served = serve.sources(PERSONAL)
    gold.execute("delete from gold.issue_counts")
    serve.serve(
        served, served, gold.warehouse, gold.store, [Change(s, (), anew=True) for s in (serve.CHECKS, serve.STAGES)]
    )
    sound(page.run())
    assert page.info and not page.dataframe


def test_a_store_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C360_HOME", str(tmp_path))
    app = Path(__file__).parents[2] / "serving" / "dashboard" / "app.py"
    assert "Nothing is served yet" in sound(testing.AppTest.from_file(app, default_timeout=60).run()).info[0].value
    monkeypatch.setenv("C360_SERVING_URL", f"sqlite:///{tmp_path}/none/serving.sqlite")
    page = sound(testing.AppTest.from_file(app, default_timeout=60).run())
    assert "C360_SERVING_URL" in page.error[0].value


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with files of every feed, loaded by the commands that a user has."""
    _browser()
    home = tmp_path_factory.mktemp("dashboard")
    out = home / "files"
    for feed, *told in (
        ("customers", "--customers", "60", "--days", "3", "--interval", "86400"),
        ("pos", "--stores", "2", "--days", "40", "--interval", "86400", "--receipts-per-object", "20", "--foreign", "0"),
        ("shop", "--customers", "60", "--days", "20", "--interval", "86400", "--orders-per-file", "20"),
    ):  # fmt: skip
        _run(home, sys.executable, "-m", "generator", feed, *told, "--seed", "3", "--out", str(out))
    for folder in sorted(out.iterdir()):
        files = [str(path) for path in sorted(folder.rglob("*")) if path.is_file()]
        _run(home, str(C360), "land", *files, "--feed", folder.name)
    _run(home, str(C360), "sync")
    return home


def _environment(home: Path) -> dict[str, str]:
    plain = {n: v for n, v in os.environ.items() if not n.startswith(("C360_", "AWS_", "DAGSTER_"))}
    return plain | {"C360_HOME": str(home / "home")}


def _run(home: Path, *command: str) -> None:
    done = subprocess.run(
        command, env=_environment(home), capture_output=True, text=True, timeout=400, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _browser() -> tuple[Any, str]:
    reason = "`make browser` installs playwright and Chromium: the dashboards were not clicked through"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip(reason)
    return sync_api, str(chromium)


@pytest.fixture(scope="module")
def dashboards(home: Path) -> Iterator[str]:
    """Their address."""
    port = free_port()
    with subprocess.Popen(
        [C360, "dashboard", "--port", str(port), "--personal"], env=_environment(home), stderr=subprocess.DEVNULL
    ) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(scope="module")
def tab(dashboards: str) -> Iterator[Any]:
    sync_api, chromium = _browser()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
        page.goto(dashboards)
        page.get_by_role("heading", name="Daily sales").wait_for(timeout=30_000)
        yield page
        browser.close()


def settled(tab: Any) -> None:
    """Until the page has been drawn, and without a stack trace on it."""
    tab.wait_for_timeout(700)
    at_rest = "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
    tab.wait_for_function(f"{at_rest} && !document.querySelector('[data-testid=stStatusWidget]')", timeout=20_000)
    assert tab.get_by_test_id("stException").count() == 0, tab.get_by_test_id("stException").first.inner_text()


def taken_along(tab: Any) -> list[dict[str, str]]:
    """What the first CSV button that is seen gives."""
    with tab.expect_download(timeout=20_000) as download:
        tab.get_by_test_id("stDownloadButton").locator("visible=true").first.click()
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))


def taken_when(tab: Any, holds: Callable[[list[dict[str, str]]], bool]) -> list[dict[str, str]]:
    """The file, once it is what is waited for: the one of before may be given for a moment. Empty if it never is."""
    for _ in range(10):
        settled(tab)
        if holds(rows := taken_along(tab)):
            return rows
    return []


def turn_to(tab: Any, title: str) -> None:
    tab.get_by_test_id("stSidebarNav").get_by_text(title, exact=True).click()
    tab.get_by_role("heading", name=title, exact=True, level=1).wait_for(timeout=20_000)
    settled(tab)


def queried(home: Path, sql: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [C360, "query", sql, "--format", "csv"], env=_environment(home), capture_output=True, text=True, timeout=60
    )
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_clicked_through_sales(tab: Any, home: Path) -> None:
    settled(tab)
    tab.get_by_role("button", name="Week").or_(tab.get_by_role("radio", name="Week")).first.click()
    settled(tab)
    rows = taken_along(tab)
    wanted = queried(
        home, "select sum(net_revenue) as n, count(*) as c from gold.daily_sales_summary where currency = 'USD'"
    )
    assert len(rows) == int(wanted[0]["c"]) and sum(float(r["net_revenue"]) for r in rows) == pytest.approx(
        float(wanted[0]["n"])
    )
    stores = tab.get_by_role("combobox", name="Stores")
    stores.click()  # to fill it opens no list
    stores.fill("STORE_001")
    tab.get_by_role("option", name="STORE_001").click()
    assert taken_when(tab, lambda rows: {row["store_id"] for row in rows} == {"STORE_001"})


def test_clicked_through_inventory(tab: Any, home: Path) -> None:
    turn_to(tab, "Inventory")
    low = queried(home, "select count(*) as n from core.inventory where is_below_reorder_point")[0]["n"]
    assert low != "0" and len(taken_along(tab)) == int(low)
    tab.get_by_text("Only what to reorder").click()
    settled(tab)
    every = int(queried(home, "select count(*) as n from core.inventory")[0]["n"])
    assert taken_when(tab, lambda rows: len(rows) == every)


def test_clicked_through_a_customer(tab: Any, home: Path) -> None:
    (most,) = queried(
        home, "select customer_id, count(*) as n from core.customer_history group by 1 order by 2 desc, 1 limit 1"
    )
    turn_to(tab, "Customer")
    tab.get_by_role("textbox", name="Customer").fill(most["customer_id"])
    tab.keyboard.press("Enter")
    tab.get_by_test_id("stSlider").wait_for(timeout=20_000)
    settled(tab)
    assert len(taken_along(tab)) == int(most["n"])
    for name in ("Orders, receipts, tickets", "What was stated"):
        tab.get_by_role("tab", name=name).click()
        settled(tab)
    told = tab.get_by_test_id("stSliderThumbValue").inner_text()
    tab.get_by_role("slider").focus()
    tab.keyboard.press("Home")
    settled(tab)
    assert tab.get_by_test_id("stSliderThumbValue").inner_text() < told


def test_clicked_through_segments(tab: Any, home: Path) -> None:
    turn_to(tab, "Segments")
    rows = taken_along(tab)
    wanted = queried(home, "select segment, count(*) as n from gold.customer_segments group by 1 order by 1")
    assert {r["segment"]: r["count_customers"] for r in rows} == {r["segment"]: r["n"] for r in wanted}
    for heading in ("Moves", "Cohorts", "Top customers"):
        assert tab.get_by_role("heading", name=heading).is_visible()


def test_clicked_through_quality(tab: Any, home: Path) -> None:
    turn_to(tab, "Data quality")
    rows = {row["feed"]: row for row in taken_along(tab)}
    wanted = queried(home, "select feed, sum(received) as n from clean.accounting where unit = 'row' group by 1")
    assert {feed: float(row["received"]) for feed, row in rows.items()} == {r["feed"]: float(r["n"]) for r in wanted}
    tab.get_by_role("tab", name="Checks").click()
    tab.get_by_role("button", name="passed").or_(tab.get_by_role("checkbox", name="passed")).first.click()
    settled(tab)
    assert any(row["status"] == "passed" for row in taken_along(tab))
    tab.get_by_role("tab", name="Issues").click()
    settled(tab)


def test_it_is_dark_where_the_reader_likes_it_dark(dashboards: str, tab: Any) -> None:
    shades = []
    for scheme in ("light", "dark"):
        context = tab.context.browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(f"{dashboards}/inventory")
        page.get_by_role("heading", name="Inventory").wait_for(timeout=20_000)
        shades.append(page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"))
        context.close()
    light, dark = (sum(int(part) for part in shade.strip("rgba()").split(",")[:3]) for shade in shades)
    assert light > 600 and dark < 200
