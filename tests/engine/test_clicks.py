"""Generated clicks with every fault through the real SQL, against the oracle: clicks, sessions, minutes, refusals, counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from c360_assets.landing import Bucket
from c360_assets.settings import PROJECT
from generator import clicks, clicks_truth
from generator.objects import GeneratedObject
from tests.engine.personal import assert_masked
from tests.parts import Platform, at_length, seeds, settings_at

MODELS = ("--exclude-resource-type", "test", "--select", "+real_time_metrics", "+customer_clicks")
PEOPLE = "customer_id,first_name,last_name,email,phone,street,city\n" + "".join(
    f"c{n},First {n},Last {n},c{n}@example.org,+39 06 {n},{n} Some Street,City {n}\n" for n in range(5)
)
CLICKS = [
    "event_id",
    "event_type",
    "customer_id",
    "session_id",
    "product_id",
    "amount",
    "page_url",
    "device_type",
    "happened_at",
]


def objects_of(seed: int, *, hours: int = 2, **more: Any) -> list[GeneratedObject]:
    """A day's clicks in objects of so many hours."""
    faults = replace(clicks.CLICK_MIX, late_events=0.1, corrected=0.05, broken=0.02, bad_events=0.05)
    spec = clicks.ClickSpec(
        days=1, interval=hours * 3600, customers=12, products=8, events_per_file=60, seed=seed, faults=faults, **more
    )
    return list(clicks.generate(spec))


def sent_to(path: Path, bucket: Bucket) -> Platform:
    own = Bucket(bucket.client, bucket.name, path.name)
    return Platform(settings_at(path), own, project=PROJECT / "dbt").begin()


def send(platform: Platform, objects: list[GeneratedObject]) -> None:
    for each in objects:
        platform.put(each.name.removeprefix("clickstream/"), each.body, feed="clickstream")


def assert_equals_truth(platform: Platform, sent: list[GeneratedObject]) -> clicks_truth.ClickTruth:
    prefix = f"{platform.bucket.prefix}/"
    modified: dict[str, datetime] = {
        key.removeprefix(prefix): at
        for key, at in platform.rows("select key, min(last_modified) from staging.object_ledger group by key")
    }
    truth = clicks_truth.click_truth(sent, modified)

    def same(table: str, wanted: list[dict[str, Any]], columns: list[str]) -> None:
        found = sorted(repr([row[c] for c in columns]) for row in platform.table(table))
        assert found == sorted(repr([_plain(row[c]) for c in columns]) for row in wanted), table

    named = [row for row in truth.clicks if row["event_id"]]
    found = platform.table("core.click")
    assert len(found) == len(truth.clicks)
    assert sorted(repr([row[c] for c in CLICKS]) for row in found if not row["event_id"].startswith("content:")) == sorted(
        repr([_plain(row[c]) for c in CLICKS]) for row in named
    )  # fmt: skip
    same("core.click_session", truth.sessions, list(truth.sessions[0]))
    same("gold.real_time_metrics", truth.minutes, list(truth.minutes[0]))
    same("gold.customer_clicks", truth.customers, list(truth.customers[0]))
    counts = platform.rows(
        "select sum(received), sum(accepted), sum(quarantined), sum(duplicates) from clean.accounting "
        "where feed = 'clickstream'"
    )
    assert counts == [(truth.received, truth.accepted, truth.refused, truth.duplicates)]
    return truth


def _plain(value: Any) -> Any:
    """Amounts as the tables have them, with four decimals."""
    return value.quantize(clicks_truth.Decimal("0.0001")) if isinstance(value, clicks_truth.Decimal) else value


@at_length
@seeds(2)
def test_any_cut_into_batches_gives_what_the_oracle_says(seed: int, tmp_path: Path, bucket: Bucket) -> None:
    platform = sent_to(tmp_path / f"clicks-{seed}", bucket)
    objects = objects_of(seed)
    Random(seed).shuffle(objects)
    step = (len(objects), 8)[seed % 2]
    for start in range(0, len(objects), step):
        send(platform, objects[start : start + step])
        platform.load("clickstream")
        platform.build(*MODELS)
    platform.put("customer_20260101000000.csv", PEOPLE.encode())
    platform.load("customers")
    platform.build()
    truth = assert_equals_truth(platform, objects)
    assert {s["known_by"] for s in truth.sessions} == {"stated", "later login", "other visits", "nobody"}
    assert_masked(platform, ("core.click_log", "core.customer_log"))
    platform.build("--full-refresh", *MODELS[2:], "+issue_log")
    assert_equals_truth(platform, objects)
