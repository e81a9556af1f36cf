"""The warehouse on Snowflake: a database over dagster-snowflake's resource, behind the interface of `warehouse`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from c360_assets.processes import at_work
from c360_assets.settings import Snowflake
from c360_assets.snowflake.errors import explained
from c360_assets.warehouse import DATE, DECIMAL, INTEGER, TEXT, TIMESTAMP, Session, Warehouse, fetched, literals

# For so many seconds the connector tries again what the network refuses, and a statement waits for another's lock.
PATIENCE = {"login_timeout": 60, "network_timeout": 300}
SESSION = {"TIMEZONE": "UTC", "LOCK_TIMEOUT": 600, "ABORT_DETACHED_QUERY": True}


class _Kept(threading.local):
    """The connection that this thread keeps over several units of work, and what it says of itself."""

    connection: Any = None
    tag = warehouse = ""


class SnowflakeWarehouse:
    """A Snowflake database over dagster-snowflake's resource. Snowflake queues its writers itself."""

    engine = "snowflake"
    starts_dbt = "c360_assets.snowflake.patience"
    # A table that is made anew is tagged before it has a row, which its materialization sees to.
    does_without_dbt = False
    sleeps = True

    def __init__(self, settings: Snowflake, **connection_arguments: Any) -> None:
        self.settings = settings
        self.database = settings.database
        # A profile cannot leave a field out, so there is one per way to authenticate.
        self.target = {"snowflake_jwt": "snowflake_key", "snowflake": "snowflake"}.get(
            settings.way_in, "snowflake_token"
        )
        self.connection_arguments = connection_arguments
        self._kept = _Kept()

    def dbt_environment(self) -> dict[str, str]:
        s = self.settings
        stated = {
            "ACCOUNT": s.account,
            "USER": s.user,
            "PASSWORD": s.password,
            "PRIVATE_KEY_PATH": s.private_key_path,
            "PRIVATE_KEY_PASSPHRASE": s.private_key_passphrase,
            "TOKEN": s.token,
            "AUTHENTICATOR": s.way_in,
            "ROLE": s.role,
            "WAREHOUSE": s.warehouse_transform or s.warehouse,
            "DATABASE": s.database,
            "HOST": s.host,
            "PORT": str(s.port),
            "PROTOCOL": s.protocol,
        }
        return {f"SNOWFLAKE_{name}": value for name, value in stated.items()}

    @contextmanager
    def writing(self, purpose: str) -> Iterator[Session]:
        with self._session(purpose, self.settings.warehouse_load) as session:
            yield session

    def merge_next(self) -> None:
        """Snowflake does so by itself."""

    @contextmanager
    def kept(self, purpose: str) -> Iterator[None]:
        if self._kept.connection is not None:
            yield
            return
        warehouse = self.settings.warehouse_load or self.settings.warehouse
        with self._connection(purpose, warehouse) as connection:
            self._kept.connection, self._kept.tag, self._kept.warehouse = connection, "", warehouse
            try:
                yield
            finally:
                self._kept.connection = None

    @contextmanager
    def _session(self, purpose: str, warehouse: str) -> Iterator[Session]:
        chosen = warehouse or self.settings.warehouse
        if self._kept.connection is None:
            with self._connection(purpose, chosen) as connection:
                yield _SnowflakeSession(connection)
            return
        with explained(self.settings):
            session = _SnowflakeSession(self._kept.connection)
            # What the connection says of itself is true of each unit of work: cost is told by it. An emulator, which is
            # what one reaches without TLS, knows of no tags.
            tag = query_tag(purpose=purpose)
            if tag != self._kept.tag and self.settings.protocol == "https":
                session.execute("alter session set query_tag = ?", [tag])
            if chosen != self._kept.warehouse:
                session.execute(f"use warehouse {chosen}")
            self._kept.tag, self._kept.warehouse = tag, chosen
            yield session

    @contextmanager
    def _connection(self, purpose: str, warehouse: str) -> Iterator[Any]:
        # Imported here: the connector takes a second to import, which the embedded default need not pay.
        from dagster_snowflake import SnowflakeResource

        s = self.settings
        stated: dict[str, Any] = {
            "password": s.password if s.way_in == "snowflake" else "",
            "private_key_path": s.private_key_path if s.way_in == "snowflake_jwt" else "",
            "private_key_password": s.private_key_passphrase if s.way_in == "snowflake_jwt" else "",
            "authenticator": s.way_in if s.way_in in ("oauth", "programmatic_access_token") else "",
            "role": s.role,
        }
        arguments: dict[str, Any] = {
            "session_parameters": SESSION | {"QUERY_TAG": query_tag(purpose=purpose)},
            **PATIENCE,
        }
        if stated["authenticator"]:
            arguments["token"] = s.token
        if s.host:
            arguments |= {"host": s.host, "port": s.port, "protocol": s.protocol}
        resource = SnowflakeResource(
            account=s.account,
            user=s.user,
            database=s.database,
            warehouse=warehouse,
            additional_snowflake_connection_args=arguments | self.connection_arguments,
            **{name: value for name, value in stated.items() if value},
        )
        with explained(s), resource.get_connection() as connection:
            try:
                yield connection
            except BaseException:
                # The resource closes it only where all went well, and Snowflake would keep its transaction for hours.
                connection.close()
                raise

    @contextmanager
    def reading(self, wait: float | None = None) -> Iterator[Session]:
        with self._session("reading", self.settings.warehouse_read) as session:
            yield session

    def purge(self) -> str:
        return (
            "Snowflake keeps deleted rows for the days of Time Travel, and seven more in Fail-safe; its query history "
            "has the statements of this erasure for a year"
        )

    @contextmanager
    def copied(self, folder: Path) -> Iterator[Warehouse]:
        """Clones of its tables, which take no room, in the database `<database>_PLAN`: one copy at a time."""
        there = plan_database(self.settings)
        with self.writing("copying") as session:
            tables = session.rows(
                "select table_schema, table_name from information_schema.tables "
                "where table_type = 'BASE TABLE' and table_schema <> 'INFORMATION_SCHEMA'"
            )
            schemas = sorted({schema for schema, _ in tables})
            for schema in schemas:
                session.execute(f"drop schema if exists {there}.{schema} cascade")
                session.execute(f"create schema {there}.{schema}")
            for schema, table in tables:
                session.execute(
                    f"create transient table {there}.{schema}.{table} clone {self.database}.{schema}.{table}"
                )
        copy = SnowflakeWarehouse(replace(self.settings, database=there), **self.connection_arguments)
        try:
            yield copy
        finally:
            with copy.writing("ending") as session:
                for (schema,) in session.rows(
                    "select schema_name from information_schema.schemata "
                    "where schema_name not in ('INFORMATION_SCHEMA', 'PUBLIC')"
                ):
                    session.execute(f"drop schema if exists {schema} cascade")

    @contextmanager
    def beside(self, other: Warehouse) -> Iterator[tuple[Session, str]]:
        with self.reading() as session:
            yield session, other.database

    @contextmanager
    def held(self, purpose: str) -> Iterator[None]:
        yield

    def is_wanted(self) -> bool:
        return False

    @contextmanager
    def dbt_here(self) -> Iterator[None]:
        from c360_assets.snowflake import patience

        patience.limit(**self.connection_arguments)
        yield


def plan_database(settings: Snowflake) -> str:
    """Where a run is rehearsed."""
    return f"{settings.database}_PLAN"


def query_tag(**more: str) -> str:
    """What Snowflake's accounts show beside each statement: which run, which asset, what for."""
    return json.dumps({"app": "c360", **at_work(), **more})


# An update locks the table until the commit: loads of two processes follow one another.
LOAD_TURN = (
    "create table if not exists staging.load_turn (taken_at timestamp_ntz(6))",
    "insert into staging.load_turn select null where not exists (select 1 from staging.load_turn)",
)
TAKE_TURN = "update staging.load_turn set taken_at = sysdate()"


class _SnowflakeSession:
    _TYPES = {TEXT: "varchar", INTEGER: "bigint", DECIMAL: "decimal(18,4)", DATE: "date", TIMESTAMP: "timestamp_ntz(6)"}

    def __init__(self, connection: Any) -> None:
        import snowflake.connector

        self._connector = snowflake.connector
        self._cursor = connection.cursor()

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        # The connector binds `%s` on the client, which works alike for every kind of statement.
        if parameters:
            self._cursor.execute(sql.replace("?", "%s"), tuple(parameters))
        else:
            self._cursor.execute(sql)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self.execute(sql, parameters)
        return [tuple(row) for row in self._cursor.fetchall()]

    def result(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        self.execute(sql, parameters)
        return [d[0].lower() for d in self._cursor.description or []], fetched(self._cursor)

    def tables(self) -> set[str]:
        # An emulator lists views in their own place alone.
        named = "select table_schema, table_name from information_schema"
        found = self.rows(f"{named}.tables union {named}.views")
        return {f"{schema}.{name}".lower() for schema, name in found}

    def columns(self, table: str) -> list[str]:
        self.execute(f"select * from {table} limit 0")
        return [d[0].lower() for d in self._cursor.description or []]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        for statement in LOAD_TURN:
            self.execute(statement)
        self.execute("begin")
        try:
            self.execute(TAKE_TURN)
            yield
            self.execute("commit")
        except BaseException:
            # Where the connection is what failed, Snowflake rolls back when it notices; after a commit of which only
            # the answer was lost there is nothing to roll back.
            with suppress(self._connector.Error):
                self.execute("rollback")
            raise

    def ensure(
        self, table: str, columns: Mapping[str, str], *, transient: bool = False, document: str | None = None
    ) -> None:
        self.execute(f"create schema if not exists {table.split('.')[0]}")
        shape = ", ".join(f"{name} {self._TYPES[kind]}" for name, kind in columns.items())
        kind = "transient table" if transient else "table"
        self.execute(f"create {kind} if not exists {table} ({shape})")
        there = self.columns(table)
        for name, kind in columns.items():
            if name in there:
                continue
            # DDL commits: where the connection is lost before the update, the column stays empty until it is dropped.
            self.execute(f"alter table {table} add column {name} {self._TYPES[kind]}")
            if document in there and kind == TEXT:
                given = f'cast(try_parse_json({document}):"{name}" as varchar)'
                self.execute(f"update {table} set {name} = {given} where {given} is not null")

    def replace(self, table: str, by: str) -> None:
        # Each commits: whoever is cut off between them calls again.
        self.execute(f"drop table if exists {table}")
        self.execute(f"alter table {by} rename to {table}")

    def put(self, files: Sequence[Path]) -> str:
        self.execute("create temporary stage if not exists staging.c360_load")
        place = f"@staging.c360_load/{time.time_ns()}"
        for file in files:
            self.execute(f"put 'file://{file}' {place} auto_compress=false")
        return place

    def load(self, table: str, columns: Sequence[str], source: str) -> None:
        # Without `null_if` a text that says \N, as every dump of MySQL has it, is null.
        self.execute(
            f"copy into {table} from {source} file_format = (type = parquet use_logical_type = true null_if = ()) "
            "match_by_column_name = case_insensitive"
        )

    def called(self, function: str, instants: Sequence[datetime]) -> str:
        return f"table({function}({literals(instants, 'timestamp_ntz')}))"
