"""Statements for Snowflake's account: no emulator runs them, so they are parsed, and held against the documented grammar."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from c360_assets import entities
from c360_assets.cli import main
from c360_assets.feeds import load_feeds
from c360_assets.settings import PROJECT, Settings
from c360_assets.snowflake import arrivals, cost, objects
from c360_assets.snowflake.objects import BootstrapError, Statement, Wanted

FEEDS = load_feeds([PROJECT / "dbt" / "models" / "staging"])
PERSONAL = entities.personal_columns(PROJECT / "dbt")
ACCOUNT = {
    "C360_WAREHOUSE": "snowflake",
    "C360_LOADING": "pipe",
    "SNOWFLAKE_ACCOUNT": "a",
    "SNOWFLAKE_USER": "me@example.com",
    "SNOWFLAKE_PASSWORD": "hush",
    "SNOWFLAKE_WAREHOUSE": "work",
    "SNOWFLAKE_WAREHOUSE_LOAD": "load_work",
    "SNOWFLAKE_DATABASE": "shop",
}
LANDING = Wanted(role_arn="arn:aws:iam::123456789012:role/c360", topic_arn="arn:aws:sns:eu-west-1:123456789012:new")

NAME, TEXT = r'"?[\w$.@]+"?', r"'(?:[^']|'')*'"
# What the parser takes for a command as it stands, as Snowflake's reference gives it: the parts that are used here.
GRAMMAR = [
    rf"create resource monitor if not exists {NAME} with credit_quota = \d+ frequency = (monthly|daily|weekly|yearly|never) "
    r"start_timestamp = immediately triggers( on \d+ percent do (suspend|suspend_immediate|notify))+",
    rf"alter resource monitor {NAME} set credit_quota = \d+",
    rf"create role if not exists {NAME}",
    rf"grant role {NAME} to (role|user) {NAME}",
    rf"grant database role {NAME} to role {NAME}",
    rf"grant select on (all|future) (tables|views) in schema {NAME} to role {NAME}",
    rf"grant usage on (all|future) functions in schema {NAME} to role {NAME}",
    rf"grant (monitor|operate)(, (monitor|operate))* on pipe {NAME} to role {NAME}",
    rf"alter storage integration {NAME} set( (enabled = (true|false)|storage_aws_role_arn = {TEXT}"
    rf"|storage_allowed_locations = \({TEXT}(, {TEXT})*\)))+",
    rf"alter stage {NAME} set url = {TEXT} storage_integration = {NAME}",
    rf"create pipe if not exists {NAME} auto_ingest = (true|false)( aws_sns_topic = {TEXT})? as copy into .*",
    rf"create masking policy if not exists {NAME} as \(val (?P<type>[\w(),]+)\) returns (?P=type) -> case when .* end",
    rf"alter tag {NAME} set masking policy {NAME} force",
    rf"drop (resource monitor|integration|warehouse|role|database) if exists {NAME}",
    rf"alter table if exists {NAME} modify column {NAME} set tag {NAME} = {TEXT}",
]
# Options that Snowflake's reference has, per kind of object that the parser knows.
OPTIONS = {
    "WAREHOUSE": {
        "warehouse_size", "auto_suspend", "auto_resume", "initially_suspended", "resource_monitor",
        "statement_timeout_in_seconds",
    },
    "STORAGE INTEGRATION": {
        "type", "storage_provider", "enabled", "storage_aws_role_arn", "storage_allowed_locations",
    },
    "FILE FORMAT": {
        "type", "compression", "record_delimiter", "field_delimiter", "multi_line", "parse_header", "skip_header",
        "skip_blank_lines", "date_format", "escape", "escape_unenclosed_field", "trim_space", "null_if",
        "field_optionally_enclosed_by", "error_on_column_count_mismatch", "replace_invalid_characters",
        "empty_field_as_null", "skip_byte_order_mark", "encoding",
    },
    "STAGE": {"url", "storage_integration", "file_format", "format_name"},
    "TAG": {"comment", "allowed_values"},
}  # fmt: skip


@pytest.fixture
def settings() -> Settings:
    return Settings.load(ACCOUNT)


@pytest.fixture
def statements(settings: Settings) -> list[Statement]:
    return objects.bootstrap(settings, LANDING, FEEDS, PERSONAL)


@pytest.fixture(autouse=True)
def quiet_parser() -> Iterator[None]:
    """It warns of what it takes for a command."""
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("sqlglot").setLevel(logging.NOTSET)


def parsed(sql: str) -> Any:
    return sqlglot.parse_one(sql, dialect="snowflake")


def test_every_statement_parses_or_is_of_the_documented_grammar(
    settings: Settings, statements: list[Statement]
) -> None:
    for statement in [*statements, *objects.teardown(settings)]:
        tree = parsed(statement.sql)
        if isinstance(tree, exp.Command):
            assert any(re.fullmatch(form, statement.sql) for form in GRAMMAR), statement.sql
        elif isinstance(tree, exp.Create) and tree.args["kind"] in OPTIONS:
            used = set(re.findall(r"\b(\w+) = ", statement.sql))
            assert used and used <= OPTIONS[tree.args["kind"]], statement.sql


def test_the_grammar_refuses_what_is_none() -> None:
    for wrong in (
        "create pipe if not exists a.b auto_load = true as copy into c",
        "alter tag a.b set masking policy c forced",
        "grant monitor on pipes p to role r",
    ):
        assert not any(re.fullmatch(form, wrong) for form in GRAMMAR)


def test_copies_parse_and_name_lines_with_their_object(settings: Settings) -> None:
    copy = arrivals.copy(FEEDS["customers"], "arriving", ["it's.csv"])
    tree = parsed(copy)
    assert isinstance(tree, exp.Copy)
    assert tree.this.this.name == "arriving"
    assert "files = ('it''s.csv')" in copy and "on_error = skip_file" in copy
    for column in ("metadata$filename", "metadata$file_content_key", "metadata$file_row_number"):
        assert column in copy


def test_cost_parses_and_reads_nothing_but_account_usage() -> None:
    tree = parsed(cost.query(["work", "load_work"]))
    tables = {table.sql(dialect="snowflake").split(" ")[0].lower() for table in tree.find_all(exp.Table) if table.db}
    assert {table.rsplit(".", 1)[0] for table in tables} == {"snowflake.account_usage"}
    assert len(tables) == 3


def test_who_only_reads_sees_what_is_made_and_nothing_that_came(statements: list[Statement]) -> None:
    granted = [s.sql for s in statements if s.kind == "grant" and re.search(r" to role SHOP_(READ|PERSONAL)$", s.sql)]
    schemas = {found.group(1) for sql in granted if (found := re.search(r" schema shop\.(\w+) ", sql))}
    assert schemas == {"core", "vault", "gold"}
    assert not [sql for sql in granted if re.search(r"\b(insert|update|delete|create|ownership|all privileges)\b", sql)]
    # Those that are there and those that a build makes anew, as-of functions among them.
    for kind in ("tables", "views", "functions"):
        for which in ("all", "future"):
            assert sum(f" on {which} {kind} in schema shop." in sql for sql in granted) == len(schemas), (
                f"{which} {kind}"
            )


def test_who_runs_the_platform_owns_nothing_of_the_account(statements: list[Statement]) -> None:
    granted = [s.sql for s in statements if s.kind == "grant" and s.sql.endswith("to role SHOP_RUN")]
    assert [sql for sql in granted if " on account " in sql] == []
    assert not [sql for sql in granted if "ownership" in sql or "manage grants" in sql or "create database" in sql]
    assert {
        "grant usage on warehouse work to role SHOP_RUN",
        "grant usage on warehouse load_work to role SHOP_RUN",
    } <= set(granted)


def test_every_column_about_a_person_is_masked_and_shown_to_who_may_see_it(statements: list[Statement]) -> None:
    tagged = {s.name for s in statements if s.kind == "column"}
    columns = ("first_name", "last_name", "email", "phone", "street")
    of_customers = ("clean.customer_rows", "core.customer", "core.customer_log", "vault.sat_customer")
    of_clicks = {f"{table}.page_url" for table in ("clean.click_rows", "core.click_log", "core.click_replaced")}
    assert tagged == {f"{t}.{c}" for t in of_customers for c in columns} | of_clicks | {
        "core.click_session.landing_page"
    }
    policies = [s.sql for s in statements if s.sql.startswith("create masking policy")]
    assert len(policies) == len(objects.MASKS)
    assert all(
        "is_role_in_session('SHOP_PERSONAL')" in sql and "is_role_in_session('SHOP_READ')" not in sql
        for sql in policies
    )


def test_no_table_of_gold_repeats_a_column_that_is_masked_in_core() -> None:
    """A policy is on a table: a copy of the column in another would show it."""
    personal = {column for _, column, _ in PERSONAL}
    assert personal
    for path in (PROJECT / "dbt" / "models" / "gold").glob("*.sql"):
        text = path.read_text()
        if "materialized=" in text:
            assert not [column for column in personal if re.search(rf"\b{column}\b", text)], path.name


def test_without_a_role_for_the_bucket_there_is_no_stage_and_no_pipe(settings: Settings) -> None:
    kinds = {s.kind for s in objects.bootstrap(settings, Wanted(), FEEDS, PERSONAL)}
    assert kinds.isdisjoint({"integration", "stage", "pipe"})
    assert {"database", "warehouse", "role", "masking policy"} <= kinds


def test_pipes_are_made_where_they_are_asked_for_and_masking_where_there_is_any(settings: Settings) -> None:
    read = Settings.load({**ACCOUNT, "C360_LOADING": "copy"})
    assert "pipe" not in {s.kind for s in objects.bootstrap(read, LANDING, FEEDS, PERSONAL)}
    plain = objects.bootstrap(settings, replace(LANDING, masking=False), FEEDS, PERSONAL)
    assert {"tag", "masking policy", "column"}.isdisjoint({s.kind for s in plain})


def test_who_runs_it_has_the_role_whatever_fails_later(statements: list[Statement]) -> None:
    order = [s.sql for s in statements]
    granted = order.index('grant role SHOP_RUN to user "me@example.com"')
    assert granted < min(n for n, s in enumerate(statements) if s.kind in ("integration", "tag", "masking policy"))


def test_what_is_made_is_taken_away(settings: Settings, statements: list[Statement]) -> None:
    """All that does not go with the database."""
    made = {
        (s.kind, s.name)
        for s in statements
        if s.sql.startswith("create") and s.kind in ("warehouse", "role", "integration", "resource monitor", "database")
    }
    assert made == {(s.kind, s.name) for s in objects.teardown(settings, warehouses_too=True)}
    assert "warehouse" not in {s.kind for s in objects.teardown(settings)}, "one may have been there before"


@pytest.mark.parametrize(
    ("environment", "wanted", "told"),
    [
        ({"SNOWFLAKE_DATABASE": "my shop"}, Wanted(), ("SNOWFLAKE_DATABASE", "'my shop'", "letters")),
        ({"SNOWFLAKE_WAREHOUSE_LOAD": "a;b"}, Wanted(), ("SNOWFLAKE_WAREHOUSE_LOAD", "'a;b'")),
        ({"SNOWFLAKE_USER": 'a"b'}, Wanted(), ("SNOWFLAKE_USER", "quote")),
        ({}, Wanted(role_arn="c360"), ("--role-arn", "'c360'")),
        ({}, Wanted(role_arn=LANDING.role_arn, topic_arn="x"), ("--topic-arn", "'x'")),
        ({}, Wanted(topic_arn=LANDING.topic_arn), ("--topic-arn", "--role-arn")),
        ({}, Wanted(size="X'"), ("--size", "X'")),
        ({}, Wanted(credits=0), ("--credits", "1 or more")),
    ],
)
def test_what_cannot_be_is_told_by_name(environment: dict[str, str], wanted: Wanted, told: tuple[str, ...]) -> None:
    with pytest.raises(BootstrapError) as error:
        objects.bootstrap(Settings.load(ACCOUNT | environment), wanted, FEEDS, PERSONAL)
    assert all(words in str(error.value) for words in told)


def test_statements_are_printed_for_whoever_may_run_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in {**ACCOUNT, "C360_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert main(["snowflake", "bootstrap", "--print"]) == 0
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if not line.endswith(";")] == []
    assert "hush" not in printed
    assert main(["snowflake", "teardown"]) == 64
    assert "say --yes" in capsys.readouterr().err
    monkeypatch.setenv("C360_WAREHOUSE", "duckdb")
    monkeypatch.delenv("C360_LOADING")
    assert main(["snowflake", "cost"]) == 64
    assert "C360_WAREHOUSE is duckdb" in capsys.readouterr().err
