"""The schedules: every hour what has something new, every night everything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg
from botocore.exceptions import EndpointConnectionError

from c360_assets import lease
from c360_assets.definitions import build_defs
from c360_assets.landing import Bucket
from tests.parts import Platform, read_already

FILE = b"customer_id,city,updated_at\n1,Rome,2024-01-01T00:00:00Z\n"


def tick(
    platform: Platform, instance: dg.DagsterInstance, name: str, bucket: Callable[[], Bucket] | None = None
) -> dg.RunRequest | str:
    """What the schedule asks for now, or why it asks for nothing."""
    defs = build_defs(read_already(platform.settings), bucket=bucket or (lambda: platform.bucket))
    context = dg.build_schedule_context(
        instance=instance, repository_def=defs.get_repository_def(), scheduled_execution_time=datetime.now(UTC)
    )
    told = defs.resolve_schedule_def(name).evaluate_tick(context)
    if told.run_requests:
        (request,) = told.run_requests
        return request
    assert told.skip_message
    return told.skip_message


def test_the_hourly_run_is_of_what_has_something_new(platform: Platform, instance: dg.DagsterInstance) -> None:
    assert tick(platform, instance, "hourly_sync") == "nothing new"
    platform.put("a.csv", FILE)
    request = tick(platform, instance, "hourly_sync")
    assert isinstance(request, dg.RunRequest) and request.asset_selection
    selected = {key.to_user_string() for key in request.asset_selection}
    assert {"staging/customers", "core/customer_history", "clean/accounting", "serving/report"} <= selected
    assert selected.isdisjoint({"staging/pos", "clean/pos_line_rows", "core/pos_line", "gold/daily_sales_summary"})
    platform.sync()
    assert tick(platform, instance, "hourly_sync") == "nothing new"


def test_what_was_loaded_and_not_built_is_something_new(platform: Platform, instance: dg.DagsterInstance) -> None:
    platform.put("a.csv", FILE)
    platform.load()
    request = tick(platform, instance, "hourly_sync")
    assert isinstance(request, dg.RunRequest) and request.asset_selection


def test_where_nobody_can_tell_what_is_new_all_of_it_is_run(platform: Platform, instance: dg.DagsterInstance) -> None:
    def no_s3() -> Bucket:
        raise EndpointConnectionError(endpoint_url="http://s3")

    request = tick(platform, instance, "hourly_sync", no_s3)
    assert isinstance(request, dg.RunRequest) and not request.asset_selection


def test_both_stand_back_while_there_is_a_worker(platform: Platform, instance: dg.DagsterInstance) -> None:
    platform.put("a.csv", FILE)
    lease.beat(platform.settings.home)
    assert str(tick(platform, instance, "hourly_sync")).startswith("the worker brings it: process ")
    assert str(tick(platform, instance, "nightly_sync")).startswith("the worker makes and checks it: process ")


def test_the_nightly_run_is_of_everything(platform: Platform, instance: dg.DagsterInstance) -> None:
    request = tick(platform, instance, "nightly_sync")
    assert isinstance(request, dg.RunRequest) and not request.asset_selection
