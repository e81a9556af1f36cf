"""The graph as Dagster sees it: every asset with its group, owner, kinds and words; one way from landing to the last layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from c360_assets import automation, transform
from c360_assets.definitions import build_defs
from c360_assets.feeds import Feed, load_feeds
from c360_assets.settings import PROJECT, Settings
from c360_assets.warehouse import open_warehouse

LAYERS = ("landing", "staging", "clean", "core", "vault", "gold", "serving")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def feeds() -> dict[str, Feed]:
    return load_feeds([PROJECT / "dbt" / "models" / "staging"])


@pytest.fixture(scope="module")
def manifest(home: Path) -> Path:
    settings = Settings.load({"C360_HOME": str(home)})
    return transform.prepare_manifest(settings.dbt_project, settings.dbt_home, open_warehouse(settings))


@pytest.fixture(scope="module")
def defs(home: Path, manifest: Path) -> dg.Definitions:
    """The definitions of an empty home: neither S3 nor a warehouse is there, and none is needed."""
    return build_defs(Settings.load({"C360_HOME": str(home)}), manifest=manifest)


@pytest.fixture(scope="module")
def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {s.key.to_user_string(): s for s in defs.resolve_all_asset_specs()}


def upstream_of(specs: dict[str, dg.AssetSpec], name: str) -> set[str]:
    """Everything that the asset comes from."""
    found: set[str] = set()
    left = [name]
    while left:
        for dep in specs[left.pop()].deps:
            parent = dep.asset_key.to_user_string()
            if parent not in found:
                found.add(parent)
                left.append(parent)
    return found


# --- assets


def test_every_asset_is_grouped_by_its_layer_which_is_the_first_part_of_its_key(
    specs: dict[str, dg.AssetSpec],
) -> None:
    assert {name: s.group_name for name, s in specs.items()} == {name: s.key.path[0] for name, s in specs.items()}
    assert {s.group_name for s in specs.values()} <= set(LAYERS)
    assert {"landing", "staging", "clean", "core"} <= {s.group_name for s in specs.values()}
    assert {len(s.key.path) for s in specs.values()} == {2}


def test_every_asset_has_an_owner(specs: dict[str, dg.AssetSpec]) -> None:
    assert [name for name, s in specs.items() if not s.owners] == []


def test_every_asset_says_what_kind_it_is_and_tables_name_their_engine(specs: dict[str, dg.AssetSpec]) -> None:
    assert [name for name, s in specs.items() if not s.kinds] == []
    assert {name for name, s in specs.items() if "s3" in s.kinds} == {n for n in specs if n.startswith("landing/")}
    assert [n for n, s in specs.items() if "duckdb" not in s.kinds and not n.startswith("landing/")] == []


def test_every_asset_says_what_it_is(specs: dict[str, dg.AssetSpec]) -> None:
    assert [name for name, s in specs.items() if not (s.description or "").strip()] == []


def test_every_feed_has_its_landing_and_staging_and_only_landing_is_external(
    defs: dg.Definitions, specs: dict[str, dg.AssetSpec], feeds: dict[str, Feed]
) -> None:
    assert {n for n in specs if n.startswith("landing/")} == {f"landing/{f}" for f in feeds}
    assert {f"staging/{f}" for f in feeds} <= specs.keys()
    graph = defs.resolve_asset_graph()
    external = {k.to_user_string() for k in graph.external_asset_keys}
    registers = {"staging/object_ledger", "staging/refused_rows", "staging/quarantine_decisions"}
    assert external == {f"landing/{f}" for f in feeds} | registers


def is_predicted(spec: dg.AssetSpec) -> bool:
    """Is it there only where the extra predictions is installed?"""
    return automation.BY_PREDICTION.items() <= spec.tags.items()


def test_every_model_of_dbt_is_an_asset(specs: dict[str, dg.AssetSpec]) -> None:
    layers = [layer for layer in LAYERS[2:] if (PROJECT / "dbt" / "models" / layer).exists()]
    models = {f"{layer}/{p.stem}" for layer in layers for p in (PROJECT / "dbt" / "models" / layer).rglob("*.sql")}
    assert models
    assert models == {name for name, spec in specs.items() if name.split("/")[0] in layers and not is_predicted(spec)}


@pytest.mark.parametrize("following", ["clean/customer_rows", "clean/accounting"])
def test_staging_is_upstream_of_cleaning_and_accounting(
    specs: dict[str, dg.AssetSpec], feeds: dict[str, Feed], following: str
) -> None:
    """Both find their feeds in dbt's graph, so dbt's manifest knows of no edge."""
    parents = {dep.asset_key.to_user_string() for dep in specs[following].deps}
    assert {f"staging/{f.name}" for f in feeds.values() if f.entity == "customer"} <= parents


def test_everything_after_staging_comes_from_landing(specs: dict[str, dg.AssetSpec]) -> None:
    later = [name for name in specs if name.split("/")[0] in LAYERS[2:]]
    assert later
    rootless = [n for n in later if not any(u.startswith("landing/") for u in upstream_of(specs, n))]
    assert rootless == ["gold/dim_date"]  # the calendar comes of nothing


def test_no_asset_reads_a_later_layer(specs: dict[str, dg.AssetSpec]) -> None:
    rank = {layer: number for number, layer in enumerate(LAYERS)}
    wrong = [
        f"{name} reads {dep.asset_key.to_user_string()}"
        for name, s in specs.items()
        for dep in s.deps
        if rank[dep.asset_key.path[0]] > rank[s.key.path[0]]
    ]
    assert wrong == []


def test_staging_tables_carry_their_name_and_columns(specs: dict[str, dg.AssetSpec], feeds: dict[str, Feed]) -> None:
    for feed in feeds.values():
        metadata = specs[f"staging/{feed.name}"].metadata
        assert metadata["dagster/table_name"] == f"staging.{feed.name}"
        columns = [c.name for c in metadata["dagster/column_schema"].columns]
        assert columns[: len(feed.columns)] == list(feed.columns)
        assert {"_key", "_etag", "_row", "_loaded_at", "_batch", "_superseded_at", "_extra"} <= set(columns)


def test_staging_is_as_fresh_as_its_feed_declares(specs: dict[str, dg.AssetSpec], feeds: dict[str, Feed]) -> None:
    for feed in feeds.values():
        policy = specs[f"staging/{feed.name}"].freshness_policy
        if feed.fresh_within_hours is None:
            assert policy is None
        else:
            assert policy is not None
            assert policy.warn_window.to_timedelta().total_seconds() == feed.fresh_within_hours * 3600
            assert policy.fail_window.to_timedelta() >= policy.warn_window.to_timedelta()
    assert feeds["customers"].fresh_within_hours == 24


# --- checks


def test_every_data_test_of_dbt_is_a_check_on_its_model(defs: dg.Definitions, manifest: Path) -> None:
    nodes = json.loads(manifest.read_text())["nodes"].values()
    tests = {n["name"] for n in nodes if n["resource_type"] == "test"}
    checks = {c.name: c.asset_key.to_user_string() for c in defs.resolve_asset_graph().asset_check_keys}
    assert tests and tests <= checks.keys()
    assert any("adds_up" in n and asset == "clean/accounting" for n, asset in checks.items())
    on_history = {n for n, asset in checks.items() if asset == "core/customer_history"}
    for invariant in ("one_open_version", "no_overlap", "no_empty_version", "gap_only_after_delete", "equals_rebuild"):
        assert any(invariant in n for n in on_history), invariant


def test_a_test_of_dbt_with_severity_error_blocks_what_comes_after(
    defs: dg.Definitions, manifest: Path, feeds: dict[str, Feed]
) -> None:
    graph = defs.resolve_asset_graph()
    nodes = json.loads(manifest.read_text())["nodes"].values()
    warns = {n["name"] for n in nodes if n["resource_type"] == "test" and n["config"]["severity"].lower() == "warn"}
    after_staging = {k.name: graph.get(k).blocking for k in graph.asset_check_keys if k.asset_key.path[0] != "staging"}
    assert warns and warns < after_staging.keys()
    ages = {name for name in after_staging if name.endswith("_events_are_fresh")}
    assert {name for name, blocking in after_staging.items() if not blocking} == warns | ages
    assert ages == {f"{feed.name}_events_are_fresh" for feed in feeds.values() if feed.events_within_hours}


def test_staging_has_checks_that_block_and_checks_that_warn(defs: dg.Definitions, feeds: dict[str, Feed]) -> None:
    graph = defs.resolve_asset_graph()
    assert any(feed.expect for feed in feeds.values())
    for feed in feeds.values():
        on_staging = {
            k.name: graph.get(k).blocking
            for k in graph.asset_check_keys
            if k.asset_key == dg.AssetKey(["staging", feed.name])
        }
        assert on_staging == {e.name: e.blocks for e in feed.expect} | {
            "rows_stand_in_the_ledger": True,
            "objects_could_be_read": False,
            "columns_as_declared": False,
        }


def test_every_check_says_what_it_checks(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    staging = [k for k in graph.asset_check_keys if k.asset_key.path[0] == "staging"]
    assert [k.name for k in staging if not graph.get(k).description] == []


# --- jobs, schedules, sensors


def test_the_job_of_a_feed_selects_its_staging_and_everything_that_is_made_of_it(
    defs: dg.Definitions, feeds: dict[str, Feed], specs: dict[str, dg.AssetSpec], manifest: Path
) -> None:
    lineage = transform.lineage_of(manifest, feeds)
    for feed in feeds:
        job = defs.resolve_job_def(f"{feed}_batch")
        selected = {
            k.to_user_string() for k in job.asset_layer.executable_asset_keys & job.asset_layer.selected_asset_keys
        }
        after = {name for name in specs if f"staging/{feed}" in upstream_of(specs, name)}
        made = {table.replace(".", "/") for table in lineage.made_of([feed])}
        # What Dagster has downstream of it and is left out only waits, for a check of something that is made of it.
        served = {name for name in after if name.startswith("serving/")}
        assert "serving/report" in served
        assert selected == {f"staging/{feed}"} | served | (made & after)
        assert made - after == {"gold/dim_date"}  # made of nothing


def test_a_feed_reaches_what_reads_it_and_not_what_waits_for_the_accounting(
    manifest: Path, feeds: dict[str, Feed]
) -> None:
    lineage = transform.lineage_of(manifest, feeds)
    of_customers, of_pos = lineage.made_of(["customers"]), lineage.made_of(["pos"])
    assert {"clean.accounting", "clean.quarantine"} <= of_customers & of_pos
    assert {"core.customer_history", "gold.dim_customer", "gold.fct_order_items", "gold.fct_pos_lines"} <= of_customers
    assert {"core.pos_line", "gold.daily_sales_summary"} <= of_pos - of_customers
    assert "core.shop_order_log" not in of_customers | of_pos


def test_the_sync_job_selects_everything_that_can_be_made(defs: dg.Definitions, specs: dict[str, dg.AssetSpec]) -> None:
    job = defs.resolve_job_def(automation.SYNC)
    made = {k.to_user_string() for k in defs.resolve_asset_graph().materializable_asset_keys}
    left = {name for name, spec in specs.items() if is_predicted(spec)}
    assert {k.to_user_string() for k in job.asset_layer.selected_asset_keys} >= made - left
    assert {c.name for c in job.asset_layer.asset_graph.asset_check_keys} == {
        c.name for c in defs.resolve_asset_graph().asset_check_keys
    }


def test_steps_run_one_after_another_in_one_process(defs: dg.Definitions) -> None:
    """DuckDB has one writer."""
    for job in defs.resolve_all_job_defs():
        assert job.executor_def is dg.in_process_executor, job.name


def test_everything_that_writes_is_in_the_warehouse_pool_and_is_tried_again(defs: dg.Definitions) -> None:
    for node in defs.resolve_job_def(automation.SYNC).nodes:
        if node.definition.output_defs and node.name.startswith(("staging__", "dbt_build")):
            if node.name.endswith("__checks"):
                continue
            assert node.definition.pool == automation.POOL, node.name
            assert node.definition.retry_policy == automation.RETRIES, node.name


def test_there_is_an_hourly_and_a_nightly_sync_and_both_are_on(defs: dg.Definitions) -> None:
    schedules = {name: defs.resolve_schedule_def(name) for name in ("hourly_sync", "nightly_sync")}
    assert {s.job_name for s in schedules.values()} == {automation.SYNC}
    assert all(s.default_status == dg.DefaultScheduleStatus.RUNNING for s in schedules.values())
    minute, *rest = str(schedules["hourly_sync"].cron_schedule).split()
    assert minute.isdigit() and rest == ["*"] * 4
    minute, hour, *rest = str(schedules["nightly_sync"].cron_schedule).split()
    assert minute.isdigit() and int(hour) < 6 and rest == ["*"] * 3


def test_every_feed_has_one_sensor_on_its_own_job_and_it_is_on(defs: dg.Definitions, feeds: dict[str, Feed]) -> None:
    assert {s.name for s in defs.sensors or ()} == {f"{feed}_landing_sensor" for feed in feeds} | {"pruning"}
    for feed in feeds:
        sensor = defs.resolve_sensor_def(f"{feed}_landing_sensor")
        assert sensor.job_name == f"{feed}_batch"
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        assert sensor.minimum_interval_seconds == 30


# --- the code location


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment without settings of whoever runs the tests."""
    plain = {n: v for n, v in os.environ.items() if not n.startswith(("C360_", "AWS_", "SNOWFLAKE_", "DAGSTER_"))}
    return plain | {"C360_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")} | more


@pytest.fixture
def empty_home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    (home / "dagster").mkdir(parents=True)
    (home / "dagster" / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    yield home


IMPORTING = """
import socket, subprocess
import dagster, dagster_aws.s3, dagster_dbt  # what they do when they are imported is not ours
def refused(*arguments, **named):
    raise AssertionError("something was connected to or started at import")
socket.socket.connect = refused
subprocess.Popen.__init__ = refused
import c360_assets.definitions as location
from c360_assets.settings import Settings, SettingsError
try:
    Settings.load()
except SettingsError as error:
    print(error)
else:
    raise SystemExit("the environment was to be nonsense")
"""


def test_importing_the_definitions_reads_no_setting_and_connects_to_nothing(tmp_path: Path) -> None:
    home = tmp_path / "none"
    run = subprocess.run(
        [sys.executable, "-c", IMPORTING],
        env=environment(home, C360_WAREHOUSE="nonsense"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "C360_WAREHOUSE is 'nonsense'" in run.stdout
    assert not home.exists() and list(tmp_path.iterdir()) == []


def test_dagster_validates_the_workspace_in_a_fresh_home(empty_home: Path) -> None:
    run = subprocess.run(
        [Path(sys.executable).with_name("dagster"), "definitions", "validate", "-w", "workspace.yaml"],
        env=environment(empty_home),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "c360" in run.stdout + run.stderr
    assert not (empty_home / "warehouse.duckdb").exists() and not (empty_home / "s3.json").exists()


def test_a_wrong_setting_fails_the_code_location_and_is_named(empty_home: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from c360_assets.definitions import defs; defs()"],
        env=environment(empty_home, C360_WAREHOUSE="nonsense"),
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert "C360_WAREHOUSE is 'nonsense'; it may be: duckdb, snowflake" in run.stderr
