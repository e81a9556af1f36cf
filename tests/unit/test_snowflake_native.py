"""Streams, tasks, procedures, functions, tags: no emulator runs them, so what is rendered is parsed, and held against the grammar.

The statements within the procedures do run, in tests/platform/test_native.py and test_arrivals.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlglot import exp

from c360_assets import entities
from c360_assets.cli import main
from c360_assets.feeds import EventTime, load_feeds
from c360_assets.settings import PROJECT, Settings
from c360_assets.snowflake import native
from c360_assets.snowflake.native import Merged
from c360_assets.snowflake.objects import Statement
from c360_assets.snowflake.warehouse import SnowflakeWarehouse
from c360_assets.transform import DBT, QUIET, entities_alone, environment
from tests.parts import project_with
from tests.scripting import Procedure
from tests.unit.test_snowflake_objects import ACCOUNT, NAME, parsed, quiet_parser  # noqa: F401

FEEDS = load_feeds([PROJECT / "dbt" / "models" / "staging"])
ENTITIES = sorted(entities.declared(PROJECT / "dbt"))
HAS_DATA = rf"system\$stream_has_data\('{NAME}'\)"
GRAMMAR = [
    r"grant execute task on account to role \w+",
    rf"grant create \w+(, create \w+)* on schema {NAME} to role \w+",
    rf"use role {NAME}",
    rf"alter stage {NAME} set directory = \(enable = true\)",
    rf"alter stage {NAME} refresh",
    rf"alter table {NAME} set change_tracking = true",
    rf"create or replace stream {NAME} on table {NAME}( append_only = true)? show_initial_rows = true",
    rf"create or replace task {NAME} warehouse = \w+ schedule = '\d+ minute' allow_overlapping_execution = (true|false) "
    rf"suspend_task_after_num_failures = 0 user_task_timeout_ms = \d+ when {HAS_DATA}( or {HAS_DATA})* as call {NAME}\(\)",
    rf"alter task {NAME} (resume|suspend)",
    "begin transaction",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Statement]:
    settings = Settings.load(ACCOUNT)
    home = tmp_path_factory.mktemp("dbt")
    rendered = entities_alone(settings.dbt_project, home, SnowflakeWarehouse(settings.snowflake), ENTITIES)
    return native.native(settings, FEEDS, {name: Merged.read(models) for name, models in rendered.items()})


@pytest.fixture(scope="module")
def procedures(made: list[Statement]) -> dict[str, Procedure]:
    return {s.name: Procedure(s.sql) for s in made if s.kind == "procedure"}


def is_known(sql: str) -> bool:
    return any(re.fullmatch(form, sql) for form in GRAMMAR) or not isinstance(without_target(sql), exp.Command)


def without_target(sql: str) -> Any:
    """The tree of a statement of Snowflake Scripting, which may name the variable that takes what it selects."""
    return parsed(re.sub(r" into :\w+ from ", " from ", sql))


def test_each_entity_and_the_arrivals_have_a_task_that_their_streams_wake(made: list[Statement]) -> None:
    tasks = {s.name: s.sql for s in made if s.kind == "task" and s.sql.startswith("create")}
    assert set(tasks) == {f"core.merge_{e}_every_minute" for e in ENTITIES} | {"staging.take_arrivals_every_minute"}
    streams = {s.name for s in made if s.kind == "stream"}
    waking = [name for sql in tasks.values() for name in re.findall(r"has_data\('shop\.([\w.]+)'\)", sql)]
    # A stream is emptied by who reads it: it wakes one task.
    assert len(waking) == len(set(waking)) and set(waking) == streams
    assert "warehouse = load_work" in tasks["staging.take_arrivals_every_minute"]
    assert "warehouse = work" in tasks["core.merge_customer_every_minute"]
    resumed = {s.name for s in made if s.sql.startswith("alter task")}
    assert resumed == set(tasks)


def test_every_statement_parses_or_is_of_the_documented_grammar(
    made: list[Statement], procedures: dict[str, Procedure]
) -> None:
    for statement in made:
        assert statement.kind == "procedure" or is_known(statement.sql), statement.sql[:300]
    for procedure in procedures.values():
        for sql in procedure.statements():
            assert is_known(sql), sql[:300]


def test_the_grammar_refuses_what_is_none() -> None:
    for wrong in (
        "create stream a on b",
        "create or replace task a schedule = '1 minute' as call b()",
        "alter task a go",
    ):
        assert not any(re.fullmatch(form, wrong) for form in GRAMMAR)


def test_a_transaction_holds_dml_alone_for_ddl_would_commit_it(procedures: dict[str, Procedure]) -> None:
    for name, procedure in procedures.items():
        inside, seen = False, 0
        for sql in procedure.statements():
            if sql == "begin transaction":
                assert not inside, f"{name}: a transaction within another"
                inside = True
            elif sql in ("commit", "rollback"):
                # The one that empties the streams ends either way.
                inside = False
            elif inside:
                seen += 1
                assert isinstance(without_target(sql), exp.Insert | exp.Update | exp.Delete | exp.Select), sql[:200]
        assert seen > 0 and not inside


def test_what_a_task_does_belongs_to_the_role_that_runs_the_platform(made: list[Statement]) -> None:
    before = [s.kind for s in made[: [s.sql for s in made].index("use role SHOP_RUN")]]
    assert {"stream", "task", "procedure"}.isdisjoint(before)
    assert "grant" in before and "grant" not in [s.kind for s in made[len(before) :]]


def test_without_pipes_nothing_is_taken_and_the_rest_is_merged() -> None:
    settings = Settings.load({**ACCOUNT, "C360_LOADING": "read"})
    model = Merged(
        "a_log", "select 'x' as batch", ["create temporary table a_log__batches as select 1 as b"], None, [], []
    )
    names = [s.name for s in native.native(settings, FEEDS, {"a": [model]}) if s.kind == "procedure"]
    assert names == ["core.merge_a"]


@pytest.mark.parametrize("feed", [name for name, feed in FEEDS.items() if feed.event_time.name])
def test_the_instant_in_a_name_is_found_where_we_find_it(feed: str) -> None:
    """The pattern as Snowflake has it, its groups counted, means the same."""
    pattern = FEEDS[feed].event_time.name
    told = native._in_name(FEEDS[feed])
    assert pattern is not None and told is not None
    group = re.search(r"'e', (\d+)\)", told[1])
    assert group
    stem = re.sub(r"\(\?:([^()|]*)[^()]*\)\??", r"\1", pattern.pattern).partition("(")[0].replace("?", "")
    for name in (
        f"{stem}20240301120000.csv",
        f"x_{stem}20240301120000_20200101000000.csv",
        f"{stem}2024.csv",
        "other.csv",
    ):
        ours, theirs = pattern.search(name), re.search(told[0].strip("'"), name)
        assert bool(ours) == bool(theirs), name
        assert not (ours and theirs) or ours.group(1) == theirs.group(int(group.group(1))), name
    assert pattern.search(f"{stem}20240301120000.csv")


def test_an_instant_in_another_zone_or_by_a_pattern_of_ours_alone_is_left_to_us() -> None:
    feed = FEEDS["customers"]
    for time in (
        EventTime(name=re.compile(r"a_(\d{14})"), zone="Europe/Oslo"),
        EventTime(name=re.compile(r"(?<=a)_(\d{14})")),
        EventTime(name=re.compile(r"\ba_(\d{14})")),
        EventTime(name=re.compile(r"a.*?_(\d{14})")),
    ):
        assert native._in_name(replace(feed, event_time=time)) is None
        assert not native.may_be_taken(replace(feed, event_time=time))


def test_an_entity_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (ACCOUNT | {"C360_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    assert main(["snowflake", "bootstrap", "--print", "--native", "custmer"]) == 64
    assert "no entity is called custmer; there are: category, customer" in capsys.readouterr().err


def test_an_entity_whose_feed_may_block_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = project_with(tmp_path, {}, shop=True)
    feed = project / "models" / "staging" / "customers.yml"
    assert "- {volume: learned}" in feed.read_text()
    feed.write_text(feed.read_text().replace("- {volume: learned}", "- {volume: learned, severity: block}"))
    environment = ACCOUNT | {"C360_HOME": str(tmp_path), "C360_DBT_PROJECT": str(project)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["snowflake", "bootstrap", "--print", "--native", "customer", "product"]) == 64
    assert "--native: customer: a feed has an expectation of severity block" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- what dbt says by the way

# In the place of dbt's own: what would be asked is told.
HEARD = "{% macro run_query(sql) %}{% do print('heard: ' ~ tojson(sql)) %}{% endmacro %}"


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the hooks of all models and the beginning of a node would ask of an account."""
    folder = tmp_path_factory.mktemp("heard")
    project = project_with(folder, {"macros/heard.sql": HEARD}, shop=True)
    models = {path.stem: path.read_text() for path in (project / "models").rglob("*.sql")}
    hooks = [hook for text in models.values() for hook in re.findall(r'post_hook="(\{\{.*?\}\})"', text, re.DOTALL)]
    assert len(hooks) == "".join(models.values()).count("post_hook"), "every hook is found"
    read = "".join(f"{{% do ref('{name}') %}}" for name in models)
    warehouse = SnowflakeWarehouse(Settings.load(ACCOUNT).snowflake)
    with environment(warehouse.dbt_environment() | QUIET):
        ran = subprocess.run(
            [DBT, "--quiet", "--no-use-colors", "compile", "--no-introspect", "--no-populate-cache", "--inline",
             f"{read}{{% do begin_node() %}}{''.join(hooks)} select 1 as one", "--target", warehouse.target, "--project-dir", project,
             "--profiles-dir", project, "--target-path", folder, "--log-path", folder],
            capture_output=True,
            text=True,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return [json.loads(line.removeprefix("heard: ")) for line in ran.stdout.splitlines() if line.startswith("heard: ")]


def test_table_functions_parse_and_give_the_columns_that_they_declare(heard: list[str]) -> None:
    form = r"\s*create or replace function ([\w.]+)\((.*?)\)\s*returns table \((.*)\)\s*as \$\$(.*)\$\$\s*"
    found = [matched for sql in heard if (matched := re.fullmatch(form, sql, re.DOTALL))]
    # Two of each entity, one of till lines and one of orders, two of each analysis.
    assert len(found) == 2 * len(ENTITIES) + 2 + 2 * 7
    for matched in found:
        name, arguments, columns, body = matched.groups()
        told = [each.split() for each in arguments.split(", ")]
        assert all(kind == "timestamp_ntz" and argument in body for argument, kind in told), name
        assert "$$" not in body
        query = parsed(body)
        assert isinstance(query, exp.Query), name
        declared = parsed(f"create table x ({columns})").this.expressions
        assert [column.name for column in declared] == query.named_selects or query.named_selects == ["*"], name
        assert not any(column.kind.is_type("timestamp") for column in declared), f"{name}: a zone is the account's"


def test_a_node_ends_what_was_left_open_and_says_whose_its_statements_are(heard: list[str]) -> None:
    assert heard[0] == "rollback"
    form = (
        r"alter session set query_tag = '(\{.*\})' timezone = 'UTC' lock_timeout = 600 "
        r"timestamp_ntz_output_format = 'YYYY-MM-DD HH24:MI:SS.FF6'"
    )
    matched = re.fullmatch(form, heard[1])
    assert matched, heard[1]
    tag = json.loads(matched.group(1))
    assert tag.pop("run") and tag == {"app": "c360", "asset": "core/inline_query"}
