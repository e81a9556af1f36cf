"""The vault in runs of what has something new: each leaves the rest alone, and the vault has all the same what came."""

from __future__ import annotations

from pathlib import Path

from c360_assets.landing import Bucket
from tests.parts import Platform, settings_at

HEAD = "customer_id,city,updated_at\n"


def test_a_run_of_one_feed_brings_its_keys_into_the_hub(tmp_path: Path, bucket: Bucket) -> None:
    """No other feed of the hub has anything new, and their models are left out."""
    settings = settings_at(tmp_path / "home")
    platform = Platform(settings, bucket, project=settings.dbt_project).begin()
    for day, customer in enumerate(("C1", "C2"), 1):
        platform.put(f"customer_2026010{day}000000.csv", f"{HEAD}{customer},Ulm,2026-01-0{day}T00:00:00Z\n".encode())
        platform.sync("customers")
    hub = "select customer_id from vault.hub_customer where customer_id is not null order by 1"
    assert platform.rows(hub) == [("C1",), ("C2",)]
