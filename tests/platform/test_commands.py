"""What a person asks by command, in a process of its own, on whichever warehouse the settings name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from c360_assets.landing import Bucket
from tests.parts import Platform, settings_at

ROWS = """\
customer_id,city,updated_at,op
C1,Rome,2024-01-01,
C1,Bonn,2024-05-01T10:00:00.25Z,
C2,Oslo,2024-01-02,
C2,,2024-06-01,D
C3,Turin,never,
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, bucket_of_module: Bucket) -> Platform:
    built = Platform(settings_at(tmp_path_factory.mktemp("commands") / "home"), bucket_of_module).begin()
    built.put("a.csv", ROWS.encode())
    built.sync()
    # A history of somebody else's, in which nothing ever ends.
    with built.warehouse.writing("test") as session:
        session.execute(
            "create table core.never_ended as select customer_id, city, valid_from, case when false then valid_from end "
            "as valid_to from core.customer_history"
        )
    return built


def test_before_the_first_run_status_tells_of_what_waits(
    tmp_path: Path, bucket_of_module: Bucket, platform: Platform, s3_endpoint: str
) -> None:
    empty = Platform(settings_at(tmp_path / "home"), bucket_of_module)
    told = empty.command(s3_endpoint, "status", "--format", "json")
    assert told.returncode == 0, told.stderr
    (feed,) = [f for f in json.loads(told.stdout)["feeds"] if f["feed"] == "customers"]
    assert (feed["objects"], feed["waiting"], feed["received"], feed["newest_event"]) == (0, 1, 0, None)


def test_query_prints_times_in_utc_and_nothing_for_null(platform: Platform, s3_endpoint: str) -> None:
    sql = "select customer_id, city, valid_from, valid_to from core.customer_history order by 1, 3"
    told = platform.command(s3_endpoint, "query", sql, "--format", "csv")
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "customer_id,city,valid_from,valid_to",
        "C1,Rome,2024-01-01T00:00:00Z,2024-05-01T10:00:00.250000Z",
        "C1,Bonn,2024-05-01T10:00:00.250000Z,",
        "C2,Oslo,2024-01-02T00:00:00Z,2024-06-01T00:00:00Z",
    ]


def test_a_query_that_cannot_be_is_one_line_without_a_traceback(platform: Platform, s3_endpoint: str) -> None:
    told = platform.command(s3_endpoint, "query", "select nope from core.customer")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("c360: ") and "Traceback" not in told.stderr


def test_audit_ends_with_what_it_found(platform: Platform, s3_endpoint: str) -> None:
    asked = ("--key", "customer_id", "--attributes", "city", "--format", "json")
    told = platform.command(s3_endpoint, "audit", "--history", "core.customer_history", *asked)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["checked"] == {"keys": 2, "versions": 3, "events": None}
    told = platform.command(s3_endpoint, "audit", "--history", "core.never_ended", *asked)
    assert told.returncode == 2, told.stderr
    (fault,) = json.loads(told.stdout)["faults"]
    assert (fault["code"], fault["key"]) == ("two_open_versions", ["C1"])


def test_quarantine_show_tells_the_reasons_and_the_text(platform: Platform, s3_endpoint: str) -> None:
    told = platform.command(s3_endpoint, "quarantine", "show", "--format", "json")
    assert told.returncode == 0, told.stderr
    (refused,) = json.loads(told.stdout)
    assert (refused["_key"].rsplit("/", 1)[-1], refused["_row"], refused["stage"]) == ("a.csv", 5, "cleaning")
    assert refused["reasons"] == '["bad_event_time"]' and "Turin" in refused["raw"]


def test_status_counts_what_came_and_what_was_refused(platform: Platform, s3_endpoint: str) -> None:
    told = platform.command(s3_endpoint, "status", "--format", "json")
    assert told.returncode == 0, told.stderr
    (feed,) = [f for f in json.loads(told.stdout)["feeds"] if f["feed"] == "customers"]
    counts = ("objects", "waiting", "received", "accepted", "quarantined", "duplicates", "open_refusals")
    assert [feed[name] for name in counts] == [1, 0, 5, 4, 1, 0, 1]
    assert feed["newest_event"] == "2024-06-01T00:00:00Z" and feed["last_loaded"].endswith("Z")


def test_report_writes_one_page(platform: Platform, s3_endpoint: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    told = platform.command(s3_endpoint, "report", "--output", str(page))
    assert (told.returncode, told.stdout) == (0, f"{page}\n"), told.stderr
    assert "5 records received, 1 refusals are open." in told.stderr
    assert "bad_event_time" in page.read_text() and platform.warehouse.engine in page.read_text()
