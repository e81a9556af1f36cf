"""Transform: the dbt project as assets, from clean to gold, with its tests as asset checks.

Belongs here: the manifest, one translator, one `dbt build` per run, failing rows of tests in the checks' metadata. What
a model needs stands in the model's own `meta`, not in an `if` with its name here.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, DbtProject, dbt_assets
from packaging.version import Version

from c360_assets import output, pending
from c360_assets.feeds import Feed
from c360_assets.pending import Lineage
from c360_assets.processes import sign_run
from c360_assets.settings import ProjectError
from c360_assets.store import MASK
from c360_assets.warehouse import Session, Warehouse, may_pass

if TYPE_CHECKING:
    from c360_assets.warm import Built, WarmDbt

FAILING_ROWS = 20
SOURCES = 200
# Snowflake's connector warns at every start of dbt about libraries that it does not use.
QUIET = {"PYTHONWARNINGS": "ignore"}
KEPT_RUNS = 20
FINGERPRINT = "fingerprint"
DBT = Path(sys.executable).with_name("dbt")


def prepare_manifest(project: Path, home: Path, warehouse: Warehouse) -> Path:
    """The project's manifest for this target, made anew only when a file of the project changed; safe side by side."""
    home.mkdir(parents=True, exist_ok=True)
    manifest = home / warehouse.target / "manifest.json"
    stamp = manifest.with_name(FINGERPRINT)
    with (home / "parsing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fingerprint = fingerprint_of(project)
        if manifest.exists() and stamp.exists() and stamp.read_text() == fingerprint:
            return manifest
        with environment(warehouse.dbt_environment()):
            parsed = subprocess.run(
                [DBT, "--quiet", "--no-use-colors", "parse", "--target", warehouse.target, "--project-dir", project,
                 "--profiles-dir", project, "--target-path", manifest.parent, "--log-path", manifest.parent],
                capture_output=True,
                text=True,
            )  # fmt: skip
        if parsed.returncode != 0:
            raise ProjectError(f"the dbt project {project} cannot be read:\n{parsed.stdout}{parsed.stderr}".rstrip())
        stamp.write_text(fingerprint)
    return manifest


def entities_alone(project: Path, home: Path, warehouse: Warehouse, entities: Sequence[str]) -> dict[str, Any]:
    """{entity: its models' statements}, as dbt/macros/alone.sql gives them. Nothing is asked of the warehouse."""
    home.mkdir(parents=True, exist_ok=True)
    wanted = ", ".join(f"{{{{ entity_alone('{entity}') }}}}" for entity in entities)
    with environment(warehouse.dbt_environment() | QUIET), tempfile.TemporaryDirectory(dir=home) as folder:
        rendered = subprocess.run(
            [DBT, "--quiet", "--no-use-colors", "compile", "--no-introspect", "--no-populate-cache",
             "--inline", f"[{wanted}]", "--target", warehouse.target, "--project-dir", project,
             "--profiles-dir", project, "--target-path", folder, "--log-path", folder],
            capture_output=True,
            text=True,
        )  # fmt: skip
    if rendered.returncode != 0:
        raise ProjectError(f"what is merged cannot be rendered:\n{rendered.stdout}{rendered.stderr}".rstrip())
    return dict(zip(entities, json.loads(rendered.stdout), strict=True))


def lineage_of(manifest: Path, feeds: Mapping[str, Feed]) -> Lineage:
    """Which feeds the models are made of, in the project as it was when `prepare_manifest` made the manifest."""
    return Lineage.read(json.loads(manifest.read_text()), manifest.with_name(FINGERPRINT).read_text(), feeds)


class LayerTranslator(DagsterDbtTranslator):
    """Schema is layer is group is the first part of the key. Feeds that macros find in the graph become parents."""

    def __init__(self, feeds: Mapping[str, Feed]) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_asset_checks=True, enable_source_tests_as_checks=True))
        self._feeds = feeds

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return str(dbt_resource_props["schema"])

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        if not unique_id.startswith("model."):
            return spec
        reads = manifest["nodes"][unique_id]["config"]["meta"].get("reads_feeds")
        if reads is None:
            return spec
        there = {dep.asset_key for dep in spec.deps}
        added = [
            dg.AssetDep(key)
            for feed in self._feeds.values()
            if reads in ("all", feed.entity) and (key := dg.AssetKey(["staging", feed.name])) not in there
        ]
        return spec.replace_attributes(deps=[*spec.deps, *added])


class InstalledDbt(DbtCliResource):
    """dbt as installed beside us: nobody has to start it to hear its version, and it needs no second adapter here.

    Both would be done before every build, and take longer than most builds (dagster-dbt 0.29).
    """

    @cached_property
    def _cli_version(self) -> Version:
        return Version(version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
        return None


class BuildConfig(dg.Config):
    """`rebuild`: make every table anew from staging."""

    rebuild: bool = False


def transform_assets(
    project: Path,
    manifest: Path,
    feeds: Mapping[str, Feed],
    lineage: Lineage,
    warehouse: Warehouse,
    *,
    prepare: Callable[[Session], None],
    held_up: Callable[[Session, Collection[str]], list[str]],
    hidden: Collection[str] = (),
    warm: "WarmDbt | None" = None,
    retry_policy: dg.RetryPolicy | None,
    pool: str | None,
) -> dg.AssetsDefinition:
    """All models and tests as one subsettable `dbt build`. `prepare` makes the tables that the models read.

    `held_up` says what of the named feeds must not be built: a model takes all that is staged of every feed behind it,
    also where this run has loaded another one, or none. Of `hidden` columns no failing row shows a value. A `warm` dbt
    builds in this process what finds its tables there.
    """
    # Where it is a module that starts dbt: without the folder in which it is started among what may be imported.
    by_module = ["-P", "-m", warehouse.starts_dbt] if warehouse.starts_dbt else []
    dbt = InstalledDbt(
        project_dir=str(project),
        profiles_dir=str(project),
        target=warehouse.target,
        dbt_executable=sys.executable if by_module else str(DBT),
        # Every statement in the log would take a third of dbt's time; target/run has them.
        global_config_flags=[*by_module, "--no-use-colors", "--log-level-file", "info"],
    )
    read = json.loads(manifest.read_text())

    @dbt_assets(
        manifest=manifest,
        dagster_dbt_translator=LayerTranslator(feeds),
        retry_policy=retry_policy,
        pool=pool,
        name="dbt_build",
    )
    def build(context: dg.AssetExecutionContext, config: BuildConfig) -> Iterator[Any]:
        sign_run(context)
        if warm is not None and not config.rebuild:
            yield from by_warm(context, warm)
            return
        with warehouse.writing("preparing staging") as session:
            prepare(session)
            pending.prepare_marks(session)
            # A feed's job leaves out views of staging at most, and can finish what a rebuild left.
            keeps = {key for key in context.assets_def.keys if key.path[0] != "staging"}
            is_whole = keeps <= context.selected_asset_keys
            rebuild = config.rebuild or (is_whole and pending.is_rebuild_unfinished(session))
            if rebuild and is_whole:
                pending.note_rebuild(session)
            newest = pending.newest_batches(session)
            selected = {".".join(key.path) for key in context.selected_asset_keys}
            missing = pending.missing_tables(session, lineage)
            if held := held_up(session, lineage.feeds_behind(selected | missing)):
                raise dg.Failure(description="\n".join(["nothing is built:", *held]), allow_retries=False)
        # Unit tests of models prove the SQL, not the data: they are run where the code is tested.
        arguments = ["build", "--exclude-resource-type", "unit_test"]
        events: list[Any] = []
        failure: Exception | None = None
        folder = _run_folder(manifest, context.run.run_id)
        with (
            warehouse.held("dbt build"),
            environment(warehouse.dbt_environment() | QUIET | {"C360_RUN": context.run.run_id}),
        ):
            try:
                if missing - selected:
                    # A young home: what is selected reads them. What fails here fails again below, and is told there.
                    first = [*arguments, "--select", " ".join(sorted(table.split(".")[1] for table in missing))]
                    dbt.cli(first, manifest=read, target_path=folder, raise_on_error=False).wait()
                invocation = dbt.cli(
                    [*arguments, *(["--full-refresh"] if rebuild else [])], context=context, target_path=folder
                )
                events.extend(invocation.stream())
            except Exception as error:  # noqa: BLE001 - what was built before it is reported first, then it is raised
                failure = error
        with warehouse.reading() as session:
            yield from (_described(event, session, read, hidden) for event in events)
        with warehouse.writing("noting what is built") as session:
            if failure is not None:
                pending.forget_built(session, lineage.feeds_behind(selected))
                raise dg.Failure(description=str(failure), allow_retries=may_pass(failure)) from failure
            built = lineage.served_by(selected)
            pending.note_built(session, lineage.project, {feed: newest.get(feed, "") for feed in built})
            if rebuild and is_whole:
                pending.note_rebuilt(session)

    def by_warm(context: dg.AssetExecutionContext, warm: "WarmDbt") -> Iterator[Any]:
        selected = {".".join(key.path) for key in context.selected_asset_keys}

        def look() -> Mapping[str, str]:
            with warehouse.writing("looking at staging") as session:
                newest = pending.newest_batches(session)
                if held := held_up(session, lineage.feeds_behind(selected)):
                    raise dg.Failure(description="\n".join(["nothing is built:", *held]), allow_retries=False)
            return newest

        newest = look()
        names = {table.split(".")[1] for table in selected} | {key.name for key in context.selected_asset_check_keys}
        built = warm.build(names, FAILING_ROWS, look)
        checks = {key.name: key for key in context.selected_asset_check_keys}
        failed = [each for each in built if each.status in ("error", "fail", "runtime error")]
        for each in built:
            # A session for each: what is done in between may have closed the connection.
            with warehouse.writing("telling what is built") as session:
                event = _event(each, session, read["nodes"][each.unique_id], checks, hidden)
            if event is not None:
                yield event
            warm.between()
        with warehouse.writing("noting what is built") as session:
            if failed:
                pending.forget_built(session, lineage.feeds_behind(selected))
                raise dg.Failure(
                    description="\n".join(f"{f.unique_id}: {f.message}" for f in failed), allow_retries=False
                )
            done = lineage.served_by(selected)
            pending.note_built(session, lineage.project, {feed: newest.get(feed, "") for feed in done})

    return build


def _event(
    built: "Built",
    session: Session,
    node: Mapping[str, Any],
    checks: Mapping[str, dg.AssetCheckKey],
    hidden: Collection[str],
) -> Any:
    """What Dagster is told of a node that a warm dbt built; nothing of one that was skipped."""
    table = f"{node['schema']}.{node['alias']}"
    if node["resource_type"] == "model":
        if built.status != "success":
            return None
        ((count,),) = session.rows(f"select count(*) from {table}")
        metadata: dict[str, Any] = {"dagster/row_count": int(count), "unique_id": built.unique_id}
        return dg.MaterializeResult(asset_key=dg.AssetKey(table.split(".")), metadata=metadata)
    key = checks.get(node["name"])
    if key is None or built.status == "skipped":
        return None
    passed = built.status == "pass"
    metadata = {"unique_id": built.unique_id, "dagster_dbt/failed_row_count": built.failures}
    if not passed:
        shown = built.shown or session.result(f"select * from {table} limit {FAILING_ROWS}")
        metadata["failing rows"] = _table(shown[0], list(shown[1]), hidden)
    severity = dg.AssetCheckSeverity.WARN if built.status == "warn" else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=passed, asset_key=key.asset_key, check_name=key.name, severity=severity, metadata=metadata
    )


def _run_folder(manifest: Path, run_id: str) -> Path:
    """Where dbt keeps this run's artifacts and log, with what it has parsed already; those of old runs make room."""
    runs = manifest.parent / "runs"
    runs.mkdir(exist_ok=True)
    for old in sorted(runs.iterdir(), key=lambda folder: folder.stat().st_mtime)[: 1 - KEPT_RUNS]:
        shutil.rmtree(old)
    return with_parsed(manifest, runs / run_id)


def with_parsed(manifest: Path, folder: Path) -> Path:
    """The folder, with what dbt has parsed already when it made the manifest."""
    folder.mkdir(exist_ok=True)
    parsed = manifest.with_name("partial_parse.msgpack")
    if parsed.exists():
        shutil.copy(parsed, folder)
    return folder


def _described(event: Any, session: Session, manifest: Mapping[str, Any], hidden: Collection[str]) -> Any:
    """The event with what only the warehouse knows: row counts of tables, failing rows of tests."""
    if isinstance(event, dg.Output | dg.AssetMaterialization | dg.MaterializeResult):
        unique_id = _text(event.metadata, "unique_id")
        node = manifest["nodes"].get(unique_id)
        if node is None:
            return event
        ((count,),) = session.rows(f"select count(*) from {node['schema']}.{node['alias']}")
        metadata = {
            **(event.metadata or {}),
            "dagster/row_count": dg.IntMetadataValue(int(count)),
            "dagster/column_schema": _column_schema(session, node),
        }
        if sources := node["config"]["meta"].get("sources"):
            metadata["made of"] = _sources(session, f"{node['schema']}.{sources}")
        if isinstance(event, dg.Output):
            return event.with_metadata(metadata)
        return event._replace(metadata=metadata)
    if isinstance(event, dg.AssetCheckResult) and not event.passed:
        node = manifest["nodes"].get(_text(event.metadata, "unique_id"))
        if node is not None and node.get("relation_name"):
            names, rows = session.result(f"select * from {node['schema']}.{node['alias']} limit {FAILING_ROWS}")
            metadata = {**(event.metadata or {}), "failing rows": _table(names, list(rows), hidden)}
            return event._replace(metadata=metadata)
    return event


def _column_schema(session: Session, node: Mapping[str, Any]) -> Any:
    described = session.rows(
        "select lower(column_name), lower(data_type) from information_schema.columns "
        f"where lower(table_schema) = '{node['schema']}' and lower(table_name) = '{node['alias']}' "
        "order by ordinal_position"
    )
    descriptions = {name: column.get("description") or None for name, column in node["columns"].items()}
    return dg.MetadataValue.table_schema(
        dg.TableSchema([dg.TableColumn(name, kind, description=descriptions.get(name)) for name, kind in described])
    )


def _sources(session: Session, view: str) -> Any:
    """Which objects the rows were made of, what changed last first: a view with the columns `batch` and `_key`."""
    names, rows = session.result(f"select * from {view} order by batch desc, _key limit {SOURCES}")
    records = [
        dg.TableRecord({n: v if isinstance(v, int) else str(v) for n, v in zip(names, row, strict=True)})
        for row in rows
    ]
    columns = [dg.TableColumn(name, "integer" if name.startswith("count_") else "string") for name in names]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _table(names: list[str], rows: list[tuple[Any, ...]], hidden: Collection[str]) -> Any:
    if not rows:
        return dg.MetadataValue.text("none: the rows were not kept")
    masked = [name.lower() in hidden for name in names]
    told = [[MASK if m and v is not None else v for m, v in zip(masked, row, strict=True)] for row in rows]
    return dg.MetadataValue.md(output.markdown(names, told))


def _text(metadata: Mapping[str, Any] | None, name: str) -> str:
    value = (metadata or {}).get(name)
    return str(getattr(value, "value", value))


def fingerprint_of(project: Path) -> str:
    """Of every file of the project that dbt reads, and of which dbt reads it."""
    digest = hashlib.sha256(DBT.resolve().as_posix().encode())
    for path in sorted(p for p in project.rglob("*") if p.suffix in (".sql", ".yml", ".csv", ".md")):
        digest.update(path.relative_to(project).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """dbt takes its profile from the environment, in our process (for names) and in its own."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
