"""Real clicks, held against pandas; and feeds of JSON that need a declaration and nothing else."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from c360_assets.landing import Bucket
from tests.parts import Platform, at_length, on_duckdb, project_with, settings_at

FEED = """
sources:
  - name: staging
    schema: staging
    tables:
      - name: {name}
        description: {name} as received.
        columns: [{columns}]
        config:
          meta:
            feed:
              prefix: {name}/
              formats: [{format}]
{more}
"""
GA4 = FEED.format(
    name="ga4", format="csv", columns="{name: event_date}, {name: event_timestamp}, {name: event_name}, "
    "{name: user_pseudo_id}, {name: page_location}, {name: device_category}, {name: revenue_usd}",
    more="""
              kind: clicks
              entity: click
              event_time: {column: event_timestamp, unit: microseconds}
              map: {event_type: event_name, session_id: user_pseudo_id, page_url: page_location,
                    device_type: device_category, amount: revenue_usd}
""",
)  # fmt: skip
REES46 = FEED.format(
    name="rees46", format="csv", columns="{name: event_time}, {name: event_type}, {name: product_id}, {name: price}, "
    "{name: user_id}, {name: user_session}",
    more="""
              kind: clicks
              entity: click
              event_time: {column: event_time}
              map: {event_type: event_type, session_id: user_session, customer_id: user_id, product_id: product_id, amount: price}
""",
)  # fmt: skip
READINGS = FEED.format(name="device_readings", format="json", columns="{name: payload}", more="")
BUILD = ("--indirect-selection", "buildable", "--select", "+click_session", "+real_time_metrics", "+accounting")


@pytest.fixture
def platform(tmp_path: Path, bucket: Bucket) -> Platform:
    staging = "models/staging"
    files = {f"{staging}/ga4.yml": GA4, f"{staging}/rees46.yml": REES46, f"{staging}/device_readings.yml": READINGS}
    project = project_with(tmp_path, files, shop=True)
    return Platform(settings_at(tmp_path / "home"), bucket, project=project)


def sessions(frame: pd.DataFrame) -> int:
    """Visitors' stretches without 30 minutes of silence."""
    ordered = frame.sort_values(["visitor", "at"])
    gap = ordered.groupby("visitor")["at"].diff()
    return int((gap.isna() | (gap >= pd.Timedelta(minutes=30))).sum())


@on_duckdb
def test_real_clicks_are_what_pandas_says(shared: Path, platform: Platform) -> None:
    folder = shared / "data" / "clickstream"
    platform.put("events.csv", (folder / "ga4_events_flat.csv").read_bytes(), feed="ga4")
    platform.put("oct.csv", (folder / "2019-Oct-sample.csv").read_bytes(), feed="rees46")
    for feed in ("ga4", "rees46"):
        platform.load(feed)
    platform.build(*BUILD)
    ga4 = pd.read_csv(folder / "ga4_events_flat.csv", dtype=str, keep_default_na=False)
    stated = ["event_timestamp", "event_name", "user_pseudo_id", "page_location", "device_category", "revenue_usd"]
    ga4 = ga4[stated].apply(lambda column: column.str.strip()).drop_duplicates()
    ga4["at"] = pd.to_datetime(ga4["event_timestamp"].astype("int64"), unit="us")
    ga4["visitor"] = ga4["user_pseudo_id"]
    rees46 = pd.read_csv(folder / "2019-Oct-sample.csv", dtype=str, keep_default_na=False)
    rees46 = rees46[["event_time", "event_type", "product_id", "price", "user_id", "user_session"]].drop_duplicates()
    rees46["at"] = pd.to_datetime(rees46["event_time"].str.removesuffix(" UTC"))
    rees46["visitor"] = rees46["user_session"]
    for feed, frame, kind, amount in (
        ("ga4", ga4, "event_name", "revenue_usd"), ("rees46", rees46, "event_type", "price"),
    ):  # fmt: skip
        bought = frame[frame[kind] == "purchase"]
        revenue = sum((Decimal(value) for value in bought[amount] if value), Decimal(0))
        ((events, purchases, total),) = platform.rows(
            f"""
            select count(*), count(case when event_type = 'purchase' then 1 end),
                sum(case when event_type = 'purchase' then coalesce(amount, 0) else 0 end)
            from core.click where _feed = '{feed}'
            """
        )
        assert (events, purchases) == (len(frame), len(bought))
        assert abs(total - revenue) <= Decimal("0.0001") * len(bought)
        visitors = tuple({f"session:{visitor}" for visitor in frame["visitor"]})
        counted = platform.rows(f"select count(*) from core.click_session where visitor in {visitors}")
        assert counted[0][0] == sessions(frame) > 0
    assert not platform.rows("select * from clean.accounting where quarantined > 0")


@on_duckdb
def test_any_feed_of_json_is_a_declaration_and_nothing_else(platform: Platform) -> None:
    readings: list[dict[str, Any]] = [
        {"device": f"d{n}", "celsius": n / 10, "at": "2026-03-01T00:00:00Z"} for n in range(5)
    ]
    body = b"".join(json.dumps(each).encode() for each in readings) + b'{"device": '
    key = platform.put("a.json", body, feed="device_readings")
    platform.load("device_readings")
    platform.build("--indirect-selection", "buildable", "--select", "+accounting", "+quarantine")
    found = platform.rows("select payload from staging.device_readings order by _row")
    assert [json.loads(text) for (text,) in found] == readings
    assert platform.rows("select received, accepted, quarantined, duplicates from clean.accounting") == [(6, 5, 1, 0)]
    assert platform.rows("select _key, stage from clean.quarantine") == [(key, "reading")]


@on_duckdb
@pytest.mark.parametrize(
    ("unit", "text"),
    [("seconds", "1772359200.5"), pytest.param("milliseconds", "1772359200500", marks=at_length)],
)
def test_instants_may_be_counted_since_1970(unit: str, text: str, tmp_path: Path, bucket: Bucket) -> None:
    declared = GA4.replace("unit: microseconds", f"unit: {unit}")
    platform = Platform(
        settings_at(tmp_path / "home"),
        bucket,
        project=project_with(tmp_path, {"models/staging/ga4.yml": declared}, shop=True),
    )
    rows = [f"20260301,{time},page_view,u1,/,mobile," for time in (text, "1e99", "soon", "999999999999999999")]
    header = "event_date,event_timestamp,event_name,user_pseudo_id,page_location,device_category,revenue_usd"
    platform.put("a.csv", "\n".join([header, *rows]).encode(), feed="ga4")
    platform.load("ga4")
    platform.build(*BUILD, "+quarantine")
    assert platform.rows("select happened_at from core.click") == [(datetime(2026, 3, 1, 10, 0, 0, 500000),)]
    assert {reasons for (reasons,) in platform.rows("select reasons from clean.quarantine")} == {'["bad_event_time"]'}
