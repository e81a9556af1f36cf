"""What has to be there on Snowflake, as statements: made by `bootstrap`, taken away by `teardown`, printed by either.

Everything may be run again: what is there stays, and what the settings say of it is set anew. The statements are run by
a role that may make databases, warehouses, roles and integrations, and nothing else ever needs that role.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from c360_assets.feeds import Feed
from c360_assets.settings import Settings
from c360_assets.snowflake import arrivals
from c360_assets.snowflake.warehouse import plan_database

# Schemas of the house; who only reads sees the last of them.
SCHEMAS = ("staging", "clean", "core", "vault", "gold", "checks", "governance")
READ = ("core", "vault", "gold")
# What the platform makes in a schema, itself and by dbt; a stage in staging alone.
MAKES = ("usage", "create table", "create view", "create function")
# What says that there is masking here, and of what.
PERSONAL = "governance.personal_columns"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
# What a masked value is shown as, per type; a policy may not change the type.
MASKS = {"varchar": "'***'", "date": "null", "timestamp_ntz": "null", "number(18,4)": "null"}


class BootstrapError(ValueError):
    """An object cannot be made as asked; the text names the setting or option, its value and the remedy."""


@dataclass(frozen=True)
class Statement:
    """One statement; `kind` and `name` tell what it is about."""

    kind: str
    name: str
    sql: str


@dataclass(frozen=True)
class Wanted:
    """What the account is to have beside the database. `credits` a month end all work; sizes are Snowflake's words.

    Without `role_arn`, the AWS role that may read the bucket, there is no integration, and no stage and no pipe on it.
    `topic_arn`: the SNS topic that tells of new objects, where S3 does not tell the pipe's queue itself. `masking`
    needs the Enterprise edition.
    """

    role_arn: str = ""
    topic_arn: str = ""
    credits: int = 100
    size: str = "XSMALL"
    idle_seconds: int = 60
    masking: bool = True


def roles(settings: Settings) -> dict[str, str]:
    """{what it is for: its name}: to run the platform, to read, to read persons' data unmasked."""
    database = settings.snowflake.database
    return {what: f"{database}_{what}".upper() for what in ("run", "read", "personal")}


def warehouses(settings: Settings) -> dict[str, str]:
    """{kind of work: the warehouse that does it}, as the settings say."""
    s = settings.snowflake
    named = {"load": s.warehouse_load, "transform": s.warehouse_transform, "read": s.warehouse_read}
    return {work: name or s.warehouse for work, name in named.items()}


def bootstrap(
    settings: Settings, wanted: Wanted, feeds: Mapping[str, Feed], personal: Sequence[tuple[str, str, str]]
) -> list[Statement]:
    """Every statement, in the order in which they have to be run. `personal`: see entities.personal_columns.

    Raises:
        BootstrapError: for a name that would have to be quoted, or an option that cannot be.
    """
    _check(settings, wanted)
    return list(_Objects(settings, wanted).all(feeds, personal))


def teardown(settings: Settings, *, warehouses_too: bool = False) -> list[Statement]:
    """Takes everything away, the data with it. Warehouses only if that is said: they may have been there before."""
    _check(settings, Wanted())
    database = settings.snowflake.database
    gone = [
        Statement("database", name, f"drop database if exists {name}")
        for name in (database, plan_database(settings.snowflake))
    ]
    gone += [Statement("integration", landing(settings), f"drop integration if exists {landing(settings)}")]
    if warehouses_too:
        gone += [
            Statement("warehouse", name, f"drop warehouse if exists {name}")
            for name in sorted(set(warehouses(settings).values()))
        ]
    gone += [Statement("role", name, f"drop role if exists {name}") for name in roles(settings).values()]
    return [
        *gone,
        Statement("resource monitor", monitor(settings), f"drop resource monitor if exists {monitor(settings)}"),
    ]


def monitor(settings: Settings) -> str:
    return f"{settings.snowflake.database}_CREDITS".upper()


def landing(settings: Settings) -> str:
    """The storage integration through which Snowflake reads the bucket."""
    return f"{settings.snowflake.database}_LANDING".upper()


def masking(personal: Sequence[tuple[str, str, str]]) -> list[Statement]:
    """A tag on every such column. Tables that are not there yet are passed over: who makes them tags them."""
    return [
        Statement(
            "column",
            f"{table}.{column}",
            f"alter table if exists {table} modify column {column} set tag governance.personal = '{what}'",
        )
        for table, column, what in personal
    ]


class _Objects:
    def __init__(self, settings: Settings, wanted: Wanted) -> None:
        self.settings = settings
        self.wanted = wanted
        self.database = settings.snowflake.database
        self.plan = plan_database(settings.snowflake)
        self.roles = roles(settings)

    def all(self, feeds: Mapping[str, Feed], personal: Sequence[tuple[str, str, str]]) -> Iterator[Statement]:
        yield from self._work()
        yield from self._places()
        yield from self._roles()
        if self.wanted.role_arn:
            yield from self._landing(feeds)
        if self.wanted.masking:
            yield from self._masking(personal)

    def _grant(self, what: str, to: str) -> Statement:
        return Statement("grant", f"{what} to {to}", f"grant {what} to {to}")

    def _work(self) -> Iterator[Statement]:
        credits = monitor(self.settings)
        yield Statement(
            "resource monitor",
            credits,
            f"create resource monitor if not exists {credits} with credit_quota = {self.wanted.credits} "
            "frequency = monthly start_timestamp = immediately "
            "triggers on 80 percent do notify on 100 percent do suspend on 110 percent do suspend_immediate",
        )
        yield Statement(
            "resource monitor", credits, f"alter resource monitor {credits} set credit_quota = {self.wanted.credits}"
        )
        for name in sorted(set(warehouses(self.settings).values())):
            # One that is there is left as it is: others may work with it.
            yield Statement(
                "warehouse",
                name,
                f"create warehouse if not exists {name} with warehouse_size = '{self.wanted.size}' "
                f"auto_suspend = {self.wanted.idle_seconds} auto_resume = true initially_suspended = true "
                f"resource_monitor = {credits} statement_timeout_in_seconds = 3600",
            )

    def _places(self) -> Iterator[Statement]:
        yield Statement("database", self.database, f"create database if not exists {self.database}")
        for schema in SCHEMAS:
            name = f"{self.database}.{schema}"
            yield Statement("schema", name, f"create schema if not exists {name}")
        yield Statement("database", self.plan, f"create transient database if not exists {self.plan}")
        yield Statement("database", self.database, f"use database {self.database}")

    def _roles(self) -> Iterator[Statement]:
        run, read, personal = (self.roles[what] for what in ("run", "read", "personal"))
        for name in (run, read, personal):
            yield Statement("role", name, f"create role if not exists {name}")
        yield self._grant(f"role {read}", f"role {personal}")
        for name in (run, read):
            yield self._grant(f"usage on database {self.database}", f"role {name}")
        # dbt and the platform make a schema where one is missing.
        for database in (self.database, self.plan):
            yield self._grant(f"create schema on database {database}", f"role {run}")
        yield self._grant(f"usage on database {self.plan}", f"role {run}")
        for schema in SCHEMAS:
            makes = (*MAKES, "create stage") if schema == "staging" else MAKES
            yield self._grant(f"{', '.join(makes)} on schema {self.database}.{schema}", f"role {run}")
        for schema in READ:
            place = f"schema {self.database}.{schema}"
            yield self._grant(f"usage on {place}", f"role {read}")
            for kind in ("tables", "views"):
                yield self._grant(f"select on all {kind} in {place}", f"role {read}")
                yield self._grant(f"select on future {kind} in {place}", f"role {read}")
            # What held at another time is asked by functions.
            for which in ("all", "future"):
                yield self._grant(f"usage on {which} functions in {place}", f"role {read}")
        for work, name in warehouses(self.settings).items():
            yield self._grant(f"usage on warehouse {name}", f"role {run}")
            if work == "read":
                yield self._grant(f"usage on warehouse {name}", f"role {read}")
        # What c360 snowflake cost reads, and no more of the account.
        for view in ("usage_viewer", "governance_viewer"):
            yield self._grant(f"database role snowflake.{view}", f"role {run}")
        for name in self.roles.values():
            yield self._grant(f"role {name}", "role sysadmin")
        yield self._grant(f"role {run}", f"user {user(self.settings.snowflake.user)}")

    def _landing(self, feeds: Mapping[str, Feed]) -> Iterator[Statement]:
        run, name = self.roles["run"], landing(self.settings)
        prefix = f"{self.settings.prefix}/" if self.settings.prefix else ""
        place = f"s3://{self.settings.bucket}/{prefix}"
        yield Statement(
            "integration",
            name,
            f"create storage integration if not exists {name} type = external_stage storage_provider = 'S3' "
            f"enabled = true storage_aws_role_arn = '{self.wanted.role_arn}' storage_allowed_locations = ('{place}')",
        )
        yield Statement(
            "integration",
            name,
            f"alter storage integration {name} set enabled = true "
            f"storage_aws_role_arn = '{self.wanted.role_arn}' storage_allowed_locations = ('{place}')",
        )
        yield self._grant(f"usage on integration {name}", f"role {run}")
        yield Statement("file format", arrivals.FORMAT, arrivals.file_format())
        yield self._grant(f"usage on file format {arrivals.FORMAT}", f"role {run}")
        yield Statement(
            "stage",
            arrivals.STAGE,
            f"create stage if not exists {arrivals.STAGE} url = '{place}' storage_integration = {name} "
            f"file_format = (format_name = {arrivals.FORMAT})",
        )
        yield Statement(
            "stage", arrivals.STAGE, f"alter stage {arrivals.STAGE} set url = '{place}' storage_integration = {name}"
        )
        yield self._grant(f"usage on stage {arrivals.STAGE}", f"role {run}")
        for feed in feeds.values():
            # Without `pipe` what arrived would be kept, and paid for, and taken by nobody.
            if self.settings.loading == "pipe" and arrivals.takes(feed):
                yield Statement("table", arrivals.table_of(feed), arrivals.make_table(feed))
                yield self._grant(f"select, insert, delete on table {arrivals.table_of(feed)}", f"role {run}")
                yield Statement("pipe", arrivals.pipe_of(feed), arrivals.pipe(feed, self.wanted.topic_arn))
                yield self._grant(f"monitor, operate on pipe {arrivals.pipe_of(feed)}", f"role {run}")

    def _masking(self, personal: Sequence[tuple[str, str, str]]) -> Iterator[Statement]:
        may_see = " or ".join(f"is_role_in_session('{self.roles[who]}')" for who in ("personal", "run"))
        yield Statement(
            "tag",
            "governance.personal",
            "create tag if not exists governance.personal "
            "comment = 'A value about a person, masked but for those who may see it'",
        )
        for kind, mask in MASKS.items():
            name = f"governance.mask_{kind.split('(')[0]}"
            yield Statement(
                "masking policy",
                name,
                f"create masking policy if not exists {name} as (val {kind}) returns {kind} -> "
                f"case when {may_see} or val is null then val else {mask} end",
            )
            yield Statement("masking policy", name, f"alter tag governance.personal set masking policy {name} force")
        yield self._grant("apply on tag governance.personal", f"role {self.roles['run']}")
        if personal:
            rows = ", ".join(f"('{table}', '{column}', '{what}')" for table, column, what in personal)
            yield Statement(
                "view",
                PERSONAL,
                f"create or replace view {PERSONAL} (table_name, column_name, what) as select * from values {rows}",
            )
            yield self._grant(f"select on view {PERSONAL}", f"role {self.roles['run']}")
            yield self._grant("usage on schema governance", f"role {self.roles['run']}")
        yield from masking(personal)


def user(name: str) -> str:
    """Users are often called as their mail is."""
    return name if _PLAIN.fullmatch(name) else f'"{name}"'


def _check(settings: Settings, wanted: Wanted) -> None:
    s = settings.snowflake
    names = {
        "SNOWFLAKE_DATABASE": s.database,
        "SNOWFLAKE_WAREHOUSE": s.warehouse,
        "SNOWFLAKE_WAREHOUSE_LOAD": s.warehouse_load or s.warehouse,
        "SNOWFLAKE_WAREHOUSE_TRANSFORM": s.warehouse_transform or s.warehouse,
        "SNOWFLAKE_WAREHOUSE_READ": s.warehouse_read or s.warehouse,
    }
    for name, value in names.items():
        if not _PLAIN.fullmatch(value):
            raise BootstrapError(f"{name} is '{value}'; choose a name of letters, digits and _")
    if '"' in s.user:
        raise BootstrapError(f"SNOWFLAKE_USER is '{s.user}', with a quote in it")
    for option, value, form in (
        ("--role-arn", wanted.role_arn, r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+"),
        ("--topic-arn", wanted.topic_arn, r"arn:aws[\w-]*:sns:[\w-]+:\d{12}:[\w-]+"),
        ("--size", wanted.size, r"[A-Z0-9]+"),
    ):
        if value and not re.fullmatch(form, value):
            raise BootstrapError(f"{option} is '{value}', which does not look like one")
    if wanted.topic_arn and not wanted.role_arn:
        raise BootstrapError("--topic-arn is for the pipes, which need --role-arn as well")
    if wanted.credits < 1:
        raise BootstrapError(f"--credits is {wanted.credits}; it must be 1 or more")
