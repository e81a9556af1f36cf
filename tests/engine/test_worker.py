"""The worker's laps on generated files with faults: what they make is what a build by dbt makes, and what the oracle says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from c360_assets import local, pending
from c360_assets.definitions import build_defs
from c360_assets.landing import Bucket, Listed
from c360_assets.settings import PROJECT, Settings
from c360_assets.worker import Worker
from generator import customers, shop, till
from generator.faults import MIX
from generator.objects import GeneratedObject
from tests.engine import test_clicks
from tests.parts import Platform, digest, on_duckdb, read_already, settings_at

pytestmark = on_duckdb
TABLES = (
    "core.customer_log", "core.customer", "core.customer_ties", "core.shop_order_log", "core.order_item", "core.product",
    "core.pos_line", "core.click", "core.click_session", "gold.real_time_metrics", "clean.accounting",
    "clean.quarantine", "core.stock_count",
)  # fmt: skip
# When and in which batch it was loaded is not the same twice; of equal copies a rebuild may name another one's object.
LOADING = {
    "_batch",
    "batch",
    "known_at",
    "_loaded_batch",
    "loaded_at",
    "refused_at",
    "_ended_batch",
    "_last_modified",
    "_key",
    "_etag",
    "_row",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    settings = settings_at(tmp_path / "home")
    for name in ("DAGSTER_HOME", "C360_HOME"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    with local.embedded_s3(settings):
        local.landing_bucket(settings).ensure()
        yield read_already(settings)


def objects_of(seed: int) -> list[GeneratedObject]:
    run = {"days": 1, "interval": 6 * 3600, "seed": seed, "start": datetime(2026, 1, 10)}
    people = customers.CustomerSpec(customers=40, rows_per_file=30, faults=replace(MIX, late=0.3), **run)  # type: ignore[arg-type]
    sales = shop.ShopSpec(customers=40, products=20, orders_per_file=12, faults=shop.SHOP_MIX, **run)  # type: ignore[arg-type]
    tills = till.TillSpec(stores=2, receipts_per_object=8, faults=till.TILL_MIX, **run)  # type: ignore[arg-type]
    return [
        *customers.generate(people),
        *shop.generate(sales),
        *till.generate(tills),
        *test_clicks.objects_of(seed, hours=4),
    ]


def put(bucket: Bucket, each: GeneratedObject) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/{each.name}", Body=each.body)


def table(platform: Platform, name: str) -> str:
    return digest([tuple(v for c, v in row.items() if c not in LOADING) for row in platform.table(name)])


def told_again_and_failed(worker: Worker, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that S3 tells of again takes no time; a lap that becomes a run does."""
    noted = "select count(*) from staging.batch_times where feed = 'products'"
    ((key, etag, at, before),) = platform.rows(
        f"select key, etag, last_modified, ({noted}) from staging.object_ledger where feed = 'products' and status = 'loaded' limit 1"
    )
    again = [Listed(at, key, etag, 1)]
    assert worker._quick("products", again, {"landed": at, "seen": at})
    assert platform.rows(noted) == [(before,)] and "products" not in worker._untold
    copied = {"Bucket": platform.bucket.name, "Key": key}
    other = key.replace("products/", "products/again/")
    platform.bucket.client.copy_object(Bucket=platform.bucket.name, Key=other, CopySource=copied)
    while "products" not in worker._waiting.due():
        worker._waiting.hear()
    with monkeypatch.context() as odd:
        odd.setattr(worker, "_quick", lambda *_: False)
        assert worker._lap("products")
    assert platform.rows(f"{noted} and gold_at is null and core_at is not null") == [(before + 1,)]


def a_lap_while_a_run_is_created(worker: Worker, platform: Platform, objects: list[GeneratedObject]) -> None:
    """Dagster has said what it means to make, and no step has begun."""
    came = next(each for each in objects if each.name.startswith("products/"))
    put(platform.bucket, replace(came, name=came.name.replace("products/", "products/meanwhile/")))
    while "products" not in worker._waiting.due():
        worker._waiting.hear()
    worker._squeezed_at = 0.0
    # It was asked to end, and then not.
    for is_ending, wanted in ((True, set()), (False, {"products"})):
        worker._is_ending = is_ending
        with worker._letting_laps_in() as brought:
            assert worker._run("customers", ())
        assert brought == wanted
    ((begun, loaded),) = platform.rows(
        "select seen_at, staged_at from staging.batch_times where feed = 'products' order by landed_at desc limit 1"
    )
    (run,) = worker._instance.get_run_records(limit=1)
    assert run.start_time is not None
    assert begun.replace(tzinfo=UTC).timestamp() < loaded.replace(tzinfo=UTC).timestamp() < run.start_time


def test_laps_make_what_a_build_makes_and_runs_tell_of_them(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform(home, local.landing_bucket(home), project=PROJECT / "dbt").begin()
    objects = objects_of(4)
    with local.dagster_instance(home) as instance:
        said: list[str] = []
        worker = Worker(home, instance, platform.warehouse, lambda: local.object_events(home), build_defs, said.append)  # type: ignore[arg-type]
        waiting = list(objects)

        def stop() -> bool:
            """Lands one object of each feed at a time; ends when all is made of all, or something failed."""
            if said:
                return True
            feeds = set()
            for each in list(waiting):
                feed = each.name.split("/")[0]
                if feed not in feeds:
                    feeds.add(feed)
                    waiting.remove(each)
                    put(platform.bucket, each)
            with platform.warehouse.reading() as session:
                left = pending.pending_feeds(worker._feeds, worker._lineage, platform.bucket, platform.warehouse)
                return not waiting and not left and bool(session.rows("select 1 from staging.batch_times limit 1"))

        worker.run(stop)
        assert not said
        # The last laps of the feeds needed no dbt.
        assert {name for name, lap in worker._laps.items() if worker._dbt.knows(lap.names)} >= {
            "customers",
            "clickstream",
            "pos",
            "orders",
        }
        metrics = dg.AssetKey(["gold", "real_time_metrics"])
        made = instance.get_latest_materialization_event(metrics)
        assert made is not None
        counted = platform.rows("select count(*) from gold.real_time_metrics")[0][0]
        assert made.asset_materialization is not None
        assert made.asset_materialization.metadata["dagster/row_count"].value == counted
        check = dg.AssetCheckKey(dg.AssetKey(["clean", "accounting"]), "accounting_adds_up")
        (told,) = instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
        assert told.status.value == "SUCCEEDED"
        runs = instance.get_runs()
        assert runs and all(run.is_finished for run in runs)
        clicks = worker._laps["clickstream"]
        left = {"click_session_holds_all_clicks", "click_session_are_apart", "real_time_metrics_equal_clicks"}
        assert left == set(clicks.last) & left and not left & clicks.names
        told_again_and_failed(worker, platform, monkeypatch)
        a_lap_while_a_run_is_created(worker, platform, objects)
    by_laps = {name: table(platform, name) for name in TABLES}
    test_clicks.assert_equals_truth(platform, [o for o in objects if o.name.startswith("clickstream/")])
    platform.build("--full-refresh", "--select", "+vw_customer_360", "+real_time_metrics", "+inventory", "+quarantine",
                   "customer_ties", "customer_changes", "+fct_orders", "--exclude-resource-type", "test")  # fmt: skip
    assert {name: table(platform, name) for name in TABLES} == by_laps
