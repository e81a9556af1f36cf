"""Real customer files, as they were exported: dirty, appended twice, two versions in one batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from c360_assets.landing import Bucket
from tests.engine.test_streams import MODELS
from tests.parts import Platform, at_length, settings_at


@pytest.fixture
def files(shared: Path) -> list[Path]:
    return sorted((shared / "data" / "customers").glob("customer_*.csv"))


@at_length
def test_three_full_files_give_the_same_tables_in_any_order(files: list[Path], tmp_path: Path, bucket: Bucket) -> None:
    digests = []
    # Each is the first, the second and the last one once.
    for number in range(3):
        order = files[number:] + files[:number]
        settings = settings_at(tmp_path / str(number))
        platform = Platform(settings, Bucket(bucket.client, bucket.name, f"order-{number}")).begin()
        for file in order:
            platform.put(file.name, file.read_bytes())
            platform.load()
            platform.build(*MODELS)
        if number == 0:
            platform.build()
        (counts,) = platform.rows(
            "select (select count(*) from core.customer), (select count(*) from core.customer_history)"
        )
        assert counts == (10_000, 30_000)
        digests.append(platform.digest())
    assert all(d == digests[0] for d in digests)


def test_two_versions_in_one_batch_are_both_kept(shared: Path, platform: Platform) -> None:
    pair = sorted((shared / "data" / "customers" / "two_versions_in_one_batch").glob("*.csv"))
    for file in pair:
        platform.put(file.name, file.read_bytes())
    loaded = platform.sync()
    assert loaded.batches == 1
    changed = len(set(pair[0].read_text().splitlines()) ^ set(pair[1].read_text().splitlines())) // 2
    keys = len(pair[0].read_text().splitlines()) - 1
    assert changed > 0
    assert platform.rows("select count(*) from core.customer_log") == [(2 * keys,)]
    assert platform.rows("select count(*) from core.customer_history") == [(keys + changed,)]
    first = "customer_id = '0' order by valid_from"
    assert platform.rows(f"select first_name, change_type from core.customer_history where {first}") == [
        ("Rodney", "insert"),
        ("Senal", "update"),
    ]


def test_the_broken_export_is_accounted_for_to_the_row(shared: Path, platform: Platform) -> None:
    platform.put("customers.csv", (shared / "data" / "customers" / "broken_export" / "customers.csv").read_bytes())
    platform.sync()
    accounting = "select received, accepted, quarantined, duplicates from clean.accounting"
    assert platform.rows(accounting) == [(200, 100, 1, 99)]
    assert platform.rows("select _row, reasons from clean.quarantine") == [(100, '["header_repeated"]')]
    assert platform.rows("select count(*), count(phone) from core.customer") == [(100, 100)]
