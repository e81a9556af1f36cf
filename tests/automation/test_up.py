"""`c360 up` as a user meets it: the sensor fires by itself, the page shows it, and stopping leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from c360_assets.settings import Settings
from c360_assets.warehouse import NoWarehouse, WarehouseBusy, open_warehouse
from tests.parts import free_port, minutes_long, read_already, without_shop

C360 = Path(sys.executable).with_name("c360")
FILE = "customer_20260101000000.csv"


class Up:
    """A running `c360 up` and its home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, self.api_port, self.dashboard_port = free_port(), free_port(), free_port()
        self.environment = {n: v for n, v in os.environ.items() if not n.startswith(("C360_", "AWS_", "DAGSTER_"))}
        # The shop is half of the project, and none of its files land here.
        project = {"C360_HOME": str(home), "C360_DBT_PROJECT": str(without_shop())}
        self.settings = read_already(Settings.load(project))
        self.environment |= project | {"C360_SENSOR_INTERVAL": "5"}
        with (home / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [C360, "up", "--port", str(self.port), "--api-port", str(self.api_port),
                 "--dashboard-port", str(self.dashboard_port)],
                env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip

    def run(self, *arguments: str) -> str:
        done = subprocess.run([C360, *arguments], env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def wait(self, what: str, seconds: float, ready: object) -> None:
        until = time.monotonic() + seconds
        while not ready():  # type: ignore[operator]
            assert self.process.poll() is None, (self.home / "up.log").read_text()[-2000:]
            assert time.monotonic() < until, (
                f"{what}: not within {seconds} s\n{(self.home / 'up.log').read_text()[-3000:]}"
            )
            time.sleep(1)

    def versions(self) -> int:
        """Of the history of customers, as far as it is there."""
        try:
            with open_warehouse(self.settings).reading(5) as session:
                if "core.customer_history" not in session.tables():
                    return 0
                ((count,),) = session.rows("select count(*) from core.customer_history")
                return int(count)
        except (NoWarehouse, WarehouseBusy):
            return 0

    def api_answers(self) -> bool:
        """With what is served, or that nothing is yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.api_port}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            return error.code == 503 and "c360 sync" in error.read().decode()
        except OSError:
            return False

    def dashboards_answer(self) -> bool:
        return self._is_ok(f"http://127.0.0.1:{self.dashboard_port}/_stcore/health")

    def answers(self) -> bool:
        return self._is_ok(f"http://127.0.0.1:{self.port}/server_info")

    def _is_ok(self, address: str) -> bool:
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("up")
    started = Up(home)
    yield started
    if started.process.poll() is None:
        started.process.send_signal(signal.SIGTERM)
        started.process.wait(90)


def test_a_landed_file_becomes_history_without_anybody_asking(up: Up, tmp_path: Path) -> None:
    up.wait("the page", 180, up.answers)
    up.wait("the API", 60, up.api_answers)
    up.wait("the dashboards", 60, up.dashboards_answer)
    file = tmp_path / FILE
    file.write_text("customer_id,city\n1,Rome\n2,Oslo\n")
    assert up.run("land", str(file), "--feed", "customers").endswith("new\n")
    count = "select count(*) from core.customer_history"
    up.wait("the history", 300, lambda: up.versions() == 2)
    assert up.run("query", count, "--format", "csv").endswith("\n2\n")


@minutes_long
def test_a_worker_that_is_killed_is_started_again_and_goes_on(up: Up, tmp_path: Path) -> None:
    (worker,) = (p for p in psutil.Process(up.process.pid).children() if p.cmdline()[-1] == "worker")
    worker.kill()
    file = tmp_path / "customer_20260102000000.csv"
    file.write_text("customer_id,city\n3,Ulm\n")
    up.run("land", str(file), "--feed", "customers")
    count = "select count(*) from core.customer_history"
    up.wait("the history", 300, lambda: up.run("query", count, "--format", "csv").endswith("\n3\n"))
    said = (up.home / "up.log").read_text()
    assert "the worker has ended with -9; again in" in said
    up.wait("the worker", 120, lambda: (up.home / "up.log").read_text().count("worker: at work") == 2)


def test_the_page_shows_the_graph(up: Up, tmp_path: Path) -> None:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: `make browser` installs it and Chromium"
    )
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: `make browser` installs it")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(f"http://127.0.0.1:{up.port}/assets/core/customer_history")
        page.get_by_text("Every version of every customer").first.wait_for(timeout=60_000)
        page.goto(f"http://127.0.0.1:{up.port}/asset-groups")
        for layer in ("landing", "staging", "clean", "core"):
            page.get_by_text(layer, exact=True).first.wait_for(timeout=60_000)
        page.screenshot(path=tmp_path / "graph.png")
        browser.close()


def test_stopping_leaves_no_process_behind(up: Up) -> None:
    family = psutil.Process(up.process.pid).children(recursive=True)
    assert len(family) > 3
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(90) == 0
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [" ".join(p.cmdline()) for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
