"""What cannot be run without an account, run on one: each thing as it begins, whether it held, and why not.

    make snowflake-check        with C360_WAREHOUSE=snowflake, SNOWFLAKE_*, and a bucket that Snowflake may read
    python -m tests.snowflake_check [--role-arn ARN] [--keep]

Everything is made in databases, warehouses and roles of its own, whose names begin with C360_CHECK, under a prefix of
its own, and taken away at the end. The user needs a role that may make them, such as ACCOUNTADMIN. Ends with 1 if
something did not hold. An emulator, which is what one reaches without TLS, need not hold what only an account has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from c360_assets import entities, local, staging
from c360_assets.feeds import Feed
from c360_assets.landing import Listed
from c360_assets.settings import Settings
from c360_assets.snowflake import cost, objects
from c360_assets.snowflake.arrivals import Arrived, Fetching, pipe_of
from c360_assets.snowflake.native import Merged, native
from c360_assets.snowflake.objects import Statement, Wanted
from c360_assets.snowflake.warehouse import SnowflakeWarehouse
from c360_assets.transform import entities_alone
from c360_assets.warehouse import Session
from tests.parts import BuildFailed, Platform, digest, without_shop

FIRST = b"customer_id,first_name,email,city,updated_at,op\n1,Ada,ada@example.com,Rome,2024-01-01,I\n2,Bob,,Oslo,2024-01-01,I\n"
LATER = b"customer_id,first_name,email,city,updated_at,op\n1,Ada,ada@example.com,Bonn,2024-02-01,U\n2,,,,2024-03-01,D\n"
QUOTED = b'customer_id,first_name,email,city,updated_at,op\n3,"Eve, the third",,Oslo,2024-01-02,I\n'
# What held when all three customers were there, by all that is known.
AS_OF = (
    "select * from table(core.customer_as_of(cast('2024-01-15' as timestamp_ntz), cast('2999-01-01' as timestamp_ntz)))"
)
# What only an account has, by the kind of its statements.
OF_AN_ACCOUNT = {
    "resource monitor", "warehouse", "role", "grant", "integration", "file format", "stage", "pipe", "tag",
    "masking policy", "stream", "procedure", "task",
}  # fmt: skip
# An emulator answers at once or never: what it refuses with an error of HTTP is not worth trying again.
IMPATIENT = {"login_timeout": 10, "network_timeout": 1}
# What docs/snowflake.md says of the two engines, as Snowflake should answer.
ARITHMETIC = {
    "select cast(1 as decimal(18,4)) / 3": "0.3333333333",
    "select greatest(1, null) is null": "True",
    "select '' is null": "False",
    "select typeof(parse_json('1.0'))": "INTEGER",
    # A group, and then a digit: no group of two digits.
    "select regexp_replace('7', '(^| )([0-9]+)', '\\\\10\\\\2')": "07",
    "select array_to_string(array_agg(x) within group (order by x desc nulls last), '') from values ('a'), ('B'), ('b') v(x)": "baB",
}  # fmt: skip


class Watching(Fetching):
    """Notes which objects were taken as they arrived."""

    def __init__(self, way: str, prefix: str, patience: float) -> None:
        super().__init__(way, prefix, patience)
        self.taken: list[str] = []

    def fetch(self, session: Session, feed: Feed, plan: Sequence[Listed], now: datetime) -> Arrived:
        arrived = super().fetch(session, feed, plan, now)
        self.taken += [plain.listed.key for plain in arrived.plain]
        return arrived


class Check:
    """One run of all steps: what held and what did not."""

    def __init__(self, settings: Settings, role_arn: str, folder: Path, patience: float) -> None:
        name = f"C360_CHECK_{uuid.uuid4().hex[:6].upper()}"
        own = replace(
            settings.snowflake, database=name, warehouse=f"{name}_WORK",
            warehouse_load="", warehouse_transform="", warehouse_read="",
        )  # fmt: skip
        prefix = f"{settings.prefix}/{name.lower()}".strip("/")
        # Pipes are a step of their own, whatever the environment says of loading.
        self.settings = replace(
            settings, snowflake=own, prefix=prefix, home=folder / "home", dbt_project=without_shop(),
            loading="pipe" if role_arn else "read",
        )  # fmt: skip
        self.emulated = own.protocol == "http"
        self.limits = IMPATIENT if self.emulated else {}
        self.admin = SnowflakeWarehouse(
            replace(own, database="", warehouse=settings.snowflake.warehouse), **self.limits
        )
        self.inside = False
        self.wanted = Wanted(role_arn=role_arn, credits=2)
        self.patience = patience
        self.bucket = local.landing_bucket(self.settings)
        # What the platform may do is what its role may.
        runs = replace(own, role=objects.roles(self.settings)["run"])
        self.platform = Platform(
            replace(self.settings, snowflake=runs), self.bucket, warehouse=SnowflakeWarehouse(runs, **self.limits)
        )
        self.entities = list(entities.declared(self.settings.dbt_project))
        self.personal = entities.personal_columns(self.settings.dbt_project)
        self.failed: list[str] = []

    def step(self, what: str, does: Callable[[], object], *, of_account: bool = False) -> bool:
        """Runs it and says whether it held: it does not by an error, nor by False.

        `of_account`: only an account can hold it.
        """
        print(f"{'...':8}{what}", flush=True)
        try:
            why = "it is otherwise" if does() is False else ""
        except (Exception, BuildFailed) as error:
            why = " ".join(str(error).split())[:300] or type(error).__name__
        if why and of_account and self.emulated:
            print(f"{'cannot':8}{what}: {why}", flush=True)
            return False
        self.failed += [what] if why else []
        print(f"{'held':8}{what}" if not why else f"{'NOT':8}{what}: {why}", flush=True)
        return not why

    def statement(self, statement: Statement, execute: Callable[[str], None], when: str = "") -> bool:
        # An emulator makes a database, and drops none.
        return self.step(
            f"{when}{statement.kind} {statement.name}",
            lambda: execute(statement.sql),
            of_account=statement.kind in OF_AN_ACCOUNT or statement.sql.startswith("drop database"),
        )

    def run(self) -> None:
        """Every step, in order."""
        for when in ("", "again: "):
            for statement in objects.bootstrap(self.settings, self.wanted, self.platform.feeds, self.personal):
                held = self.statement(statement, self.execute, when)
                self.inside = self.inside or (held and statement.sql.startswith("use database"))
        self.step("objects are put", self.put)
        self.step("our reader loads them", lambda: self.platform.load().objects == 2)
        if self.wanted.role_arn:
            self.step("COPY from the stage gives the same rows", lambda: self.same_by("copy"))
            self.step("Snowpipe gives the same rows", lambda: self.same_by("pipe"))
        self.step("a build, its tests too", self.platform.build)
        self.step("a late change is spliced in", self.late)
        self.step("history is what DuckDB has", self.as_on_duckdb)
        self.native()
        self.step("as-of functions answer", lambda: len(self.rows(AS_OF)) == 3, of_account=True)
        self.step("who only reads sees no mail, as of then neither", self.masked, of_account=True)
        self.step("statements carry their tag", self.tagged, of_account=True)
        self.step(
            "cost can be asked",
            lambda: self.rows_of(cost.query([self.settings.snowflake.warehouse]), [1, 1]),
            of_account=True,
        )
        for sql, expected in ARITHMETIC.items():
            self.step(f"{sql} is {expected}", partial(self.answers, sql, expected), of_account=True)

    def answers(self, sql: str, expected: str) -> bool:
        return str(self.rows(sql)[0][0]).startswith(expected)

    def end(self) -> None:
        """Takes everything away, from outside the database, which goes first."""
        self.inside = False
        self.step("gone: objects", self.remove)
        for statement in objects.teardown(self.settings, warehouses_too=True):
            self.statement(statement, self.execute, "gone: ")

    def execute(self, sql: str) -> None:
        with self.admin.writing("check") as session:
            if self.inside:
                session.execute(f"use database {self.settings.snowflake.database}")
            session.execute(sql)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.rows_of(sql, [])

    def rows_of(self, sql: str, bound: list[object]) -> list[tuple[object, ...]]:
        with self.platform.warehouse.reading() as session:
            return session.rows(sql, bound)

    def put(self) -> None:
        for name, body in {"a.csv": FIRST, "quoted.csv": QUOTED}.items():
            self.platform.put(name, body)

    def remove(self) -> None:
        for listed in self.bucket.listed(self.platform.feeds["customers"]):
            self.bucket.client.delete_object(Bucket=self.bucket.name, Key=listed.key)

    def same_by(self, way: str) -> bool:
        """The same objects again, into the same table, which is put back as it was."""
        read = "select * exclude (_loaded_at, _batch) from staging.customers"
        before = digest(self.rows(read))
        # By the role that runs the platform: a table that is replaced belongs to who replaced it.
        self.execute_as_run("create or replace transient table staging.customers_kept clone staging.customers")
        self.execute_as_run("create or replace table staging.ledger_kept clone staging.object_ledger")
        self.execute_as_run("delete from staging.customers")
        self.execute_as_run("delete from staging.object_ledger")
        if way == "pipe":
            # The bucket knows nothing of a pipe that was made a minute ago.
            self.execute(f"alter pipe {pipe_of(self.platform.feeds['customers'])} refresh")
        fetching, until, loaded = Watching(way, self.settings.prefix, 3600.0), time.monotonic() + 2 * self.patience, 0
        while loaded < 2 and time.monotonic() < until:
            loaded += staging.load_new(
                self.platform.feeds["customers"], self.bucket, self.platform.warehouse, self.settings.spool,
                objects=500, size=1 << 30, fetching=fetching,
            ).objects  # fmt: skip
            time.sleep(0 if loaded == 2 else 10)
        if not any(key.endswith("a.csv") for key in fetching.taken):
            raise AssertionError("our reader read a.csv: it did not arrive, or not with the etag that S3 lists")
        after = digest(self.rows(read))
        self.execute_as_run("create or replace transient table staging.customers clone staging.customers_kept")
        self.execute_as_run("create or replace table staging.object_ledger clone staging.ledger_kept")
        return before == after

    def late(self) -> bool:
        self.platform.put("b.csv", LATER)
        self.platform.sync()
        return self.rows("select count(*) from core.customer_history") == [(4,)]

    def as_on_duckdb(self) -> bool:
        home = self.settings.home.with_name("duckdb")
        other = Platform(replace(self.settings, warehouse="duckdb", home=home), self.bucket)
        other.sync()
        return other.digest() == self.platform.digest()

    def native(self) -> None:
        """Streams and tasks are made by whom they belong to, and merge what a load of ours brings."""
        rendered = entities_alone(self.platform.project, self.settings.dbt_home, self.platform.warehouse, self.entities)
        merged = {name: Merged.read(models) for name, models in rendered.items()}
        execute, held = self.execute, True
        for statement in native(self.settings, {"customers": self.platform.feeds["customers"]}, merged):
            if statement.sql.startswith("use role"):
                execute = self.execute_as_run
            held = self.statement(statement, execute) and held
        if held:
            self.step(f"a task merges what was loaded, within {self.patience:.0f} seconds", self.merged_by_task)
        else:
            print(f"{'left':8}a task merges what was loaded: not all of it was made", flush=True)

    def merged_by_task(self) -> bool:
        self.platform.put("c.csv", FIRST.replace(b"2024-01-01", b"2024-05-01").replace(b"Rome", b"Lima"))
        self.platform.load()
        until = time.monotonic() + self.patience
        while self.rows("select count(*) from core.customer where city = 'Lima'") == [(0,)]:
            if time.monotonic() > until:
                return False
            time.sleep(10)
        before = self.platform.digest()
        self.platform.sync()
        return self.platform.digest() == before

    def execute_as_run(self, sql: str) -> None:
        with self.platform.warehouse.writing("check") as session:
            session.execute(sql)

    def masked(self) -> bool:
        reader = replace(self.settings.snowflake, role=objects.roles(self.settings)["read"])
        self.execute(f"grant role {reader.role} to user {objects.user(reader.user)}")
        asked = ("core.customer", "core.customer_history", f"({AS_OF})")
        with SnowflakeWarehouse(reader, **self.limits).reading() as session:
            # Else the other roles of this user count beside it, and the run's sees what is masked.
            session.execute("use secondary roles none")
            return all(
                session.rows(f"select distinct email from {table} where email is not null") == [("***",)]
                for table in asked
            )

    def tagged(self) -> bool:
        found = self.rows(
            "select count(*) from table(information_schema.query_history(result_limit => 10000)) "
            "where try_parse_json(query_tag):asset = 'core/customer_log'"
        )
        return found != [(0,)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.snowflake_check", description=__doc__)
    parser.add_argument("--role-arn", default="", help="the AWS role that may read the bucket")
    parser.add_argument("--keep", action="store_true", help="leave what was made")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds until a task has run (300)")
    options = parser.parse_args()
    settings = Settings.load()
    if settings.warehouse != "snowflake":
        print("C360_WAREHOUSE is duckdb: there is nothing to check", file=sys.stderr)
        return 64
    with tempfile.TemporaryDirectory(prefix="c360-check-") as folder:
        check = Check(settings, options.role_arn, Path(folder), options.patience)
        try:
            check.run()
        finally:
            if not options.keep:
                check.end()
    print(f"{len(check.failed)} did not hold")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
