"""What is expected of a table, declared beside its columns: a check of it that warns, or that holds up what is made of it."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from c360_assets import automation
from c360_assets.definitions import build_defs
from c360_assets.landing import Bucket
from tests.parts import BuildFailed, Platform, on_duckdb, project_with, read_already, settings_at

pytestmark = on_duckdb
DECLARED = """
core/customer.yml:
  customer:
    customer_id:
      - distinct: {name: customer_id_distinct, arguments: {bound: 30}, config: {severity: warn}}
  customer_history:
    city:
      - null_share: {name: customer_history_city_null_share, arguments: {bound: 0.2}}
core/pos_line.yml:
  pos_line:
    unit_price:
      - at_least: {name: pos_line_unit_price_at_least, arguments: {bound: 1}}
      - at_most: {name: pos_line_unit_price_at_most, arguments: {bound: 1000}, config: {severity: warn}}
    sales_date:
      - volume: {name: pos_line_volume}
    sold_at:
      - freshness: {name: pos_line_freshness, config: {severity: warn}}
"""
HISTORY, MADE_OF_IT = dg.AssetKey(["core", "customer_history"]), dg.AssetKey(["core", "v_customer_change_data"])
TODAY = datetime.now(UTC).date()
LINES = 26  # of every day but one of the week


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with expectations beside the columns of three tables."""
    made = project_with(tmp_path_factory.mktemp("expecting"), {})
    for file, models in yaml.safe_load(DECLARED).items():
        path = made / "models" / file
        text = yaml.safe_load(path.read_text())
        for model in text["models"]:
            for name, tests in models.get(model["name"], {}).items():
                column = next((c for c in model["columns"] if c["name"] == name), None)
                if column is None:
                    model["columns"].append(column := {"name": name})
                column.setdefault("data_tests", []).extend(tests)
        path.write_text(yaml.safe_dump(text, sort_keys=False))
    return made


@pytest.fixture
def expecting(project: Path, tmp_path: Path, bucket: Bucket) -> Platform:
    settings = settings_at(tmp_path / "home", C360_WAIT="20", C360_DBT_PROJECT=str(project))
    return Platform(settings, bucket, project=project).begin()


def customers(first: int, without_city: int) -> bytes:
    rows = [f"c{first + n},{'' if n < without_city else 'Rome'},2024-01-01" for n in range(25)]
    return "\n".join(["customer_id,city,updated_at", *rows, ""]).encode()


def receipt(day: date, lines: int, **more: object) -> str:
    items = [{"product_id": f"p{n}", "price": 2, "quantity": 1} | more for n in range(lines)]
    at = f"{day.isoformat()}T12:00:00Z"
    said = {"store_id": "s1", "transaction_id": f"{day}-{lines}", "timestamp": at, "items": items}
    return json.dumps(said)


def ten_weeks(platform: Platform, until: date, *receipts: str, without: Collection[date] = ()) -> None:
    """Lands as many lines of every day up to the last one, but none of the weekday four days before it."""
    days = [until - timedelta(n) for n in range(70) if n % 7 != 4]
    bodies = [receipt(day, LINES) for day in days if day not in without]
    platform.put("weeks", "".join([*bodies, *receipts]).encode(), "pos")


def kept(platform: Platform, check: str) -> list[tuple[object, ...]] | None:
    """The rows that break it; None where none do."""
    there = platform.rows(
        f"select 1 from information_schema.tables where table_schema = 'checks' and table_name = '{check}'"
    )
    return platform.rows(f"select * from checks.{check} order by 1") if there else None


def test_each_rule_is_a_check_of_its_table_that_warns_or_holds_up_what_is_made_of_it(
    expecting: Platform, instance: dg.DagsterInstance
) -> None:
    expecting.put("a.csv", customers(0, without_city=10))
    expecting.put("till", receipt(TODAY, 1, price=0.5).encode(), "pos")
    job = build_defs(read_already(expecting.settings), bucket=lambda: expecting.bucket).resolve_job_def(automation.SYNC)
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    told = {e.check_name: e for e in result.get_asset_check_evaluations()}
    share, distinct = told["customer_history_city_null_share"], told["customer_id_distinct"]
    assert (share.asset_key, share.passed, share.severity) == (HISTORY, False, dg.AssetCheckSeverity.ERROR)
    assert str(share.metadata["failing rows"].value).splitlines()[-1] == "| 25 | 10 |"
    assert distinct.asset_key == dg.AssetKey(["core", "customer"])
    assert (distinct.passed, distinct.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert str(distinct.metadata["failing rows"].value).splitlines()[-1] == "| 25 | 25 |"
    assert told["pos_line_volume"].passed and told["pos_line_volume"].asset_key == dg.AssetKey(["core", "pos_line"])
    cheap = told["pos_line_unit_price_at_least"]
    assert (cheap.passed, cheap.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert str(cheap.metadata["failing rows"].value).splitlines()[-1] == "| 0.5000 | 1 |"
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    assert not result.success and HISTORY in made and MADE_OF_IT not in made


def test_a_share_that_is_as_expected_holds_nothing_up(expecting: Platform) -> None:
    expecting.put("a.csv", customers(0, without_city=10))
    with pytest.raises(BuildFailed) as stopped:
        expecting.sync()
    assert stopped.value.failed == ["customer_history_city_null_share"]
    expecting.put("b.csv", customers(25, without_city=0))
    expecting.sync()
    assert kept(expecting, "customer_history_city_null_share") is kept(expecting, "customer_id_distinct") is None
    assert expecting.rows("select count(*) from core.v_customer_change_data") == [(50,)]


def test_days_are_held_against_the_same_weekdays_of_the_weeks_before(expecting: Platform) -> None:
    yesterday = TODAY - timedelta(1)
    away = yesterday - timedelta(2)
    # The day that goes on, and what a wrong clock dates ahead, are not judged.
    more = [receipt(yesterday, 5), receipt(TODAY, 1, price=5000), receipt(TODAY + timedelta(400), 1)]
    more += [receipt(TODAY, 2, price=1), receipt(TODAY, 3, price=1000)]  # just what the bounds allow
    ten_weeks(expecting, yesterday, *more, without=[away, yesterday])
    with pytest.raises(BuildFailed) as stopped:
        expecting.sync("pos")
    assert stopped.value.failed == ["pos_line_volume"]
    assert kept(expecting, "pos_line_volume") == [(away, 0, 13, 53), (yesterday, 5, 13, 53)]
    assert kept(expecting, "pos_line_unit_price_at_most") == [(5000, 1)]
    assert kept(expecting, "pos_line_unit_price_at_least") is kept(expecting, "pos_line_freshness") is None
    assert expecting.rows("select count(*) from gold.daily_sales_summary") == [(0,)]

    expecting.put("late", (receipt(away, LINES) + receipt(yesterday, LINES - 5)).encode(), "pos")
    expecting.sync("pos")
    assert kept(expecting, "pos_line_volume") is None
    assert expecting.rows("select count(*) from gold.daily_sales_summary") == [(62,)]


def test_a_table_that_is_silent_for_longer_than_is_usual_warns(expecting: Platform) -> None:
    last = TODAY - timedelta(7)
    ten_weeks(expecting, last)
    expecting.sync("pos")
    ((last_at, at_most, silent),) = kept(expecting, "pos_line_freshness") or [(None, None, None)]
    # Two days around the one without sales are usual, and twice that is borne.
    assert (last_at, at_most) == (datetime(last.year, last.month, last.day, 12), 96)
    assert isinstance(silent, int) and 7 * 24 - 12 <= silent < 8 * 24 - 12
    assert kept(expecting, "pos_line_volume") is None
