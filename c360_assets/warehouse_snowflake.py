"""The warehouse on Snowflake: a database over dagster-snowflake's resource, behind the interface of `warehouse`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from c360_assets.settings import Snowflake
from c360_assets.warehouse import DATE, DECIMAL, INTEGER, TEXT, TIMESTAMP, Session, fetched, literals


class SnowflakeWarehouse:
    """A Snowflake database over dagster-snowflake's resource. Snowflake queues its writers itself."""

    engine = "snowflake"

    def __init__(self, settings: Snowflake, **connection_arguments: Any) -> None:
        self.settings = settings
        # A profile cannot leave a field out, so there is one per way to authenticate.
        way = "_key" if settings.private_key_path else "" if settings.password else "_token"
        self.target = f"snowflake{way}"
        self.connection_arguments = connection_arguments

    def dbt_environment(self) -> dict[str, str]:
        s = self.settings
        stated = {
            "ACCOUNT": s.account,
            "USER": s.user,
            "PASSWORD": s.password,
            "PRIVATE_KEY_PATH": s.private_key_path,
            "PRIVATE_KEY_PASSPHRASE": s.private_key_passphrase,
            "TOKEN": s.token,
            "ROLE": s.role,
            "WAREHOUSE": s.warehouse,
            "DATABASE": s.database,
            "HOST": s.host,
            "PORT": str(s.port),
            "PROTOCOL": s.protocol,
        }
        return {f"SNOWFLAKE_{name}": value for name, value in stated.items()}

    @contextmanager
    def writing(self, purpose: str) -> Iterator[Session]:
        # Imported here: the connector takes a second to import, which the embedded default need not pay.
        from dagster_snowflake import SnowflakeResource

        s = self.settings
        stated: dict[str, Any] = {
            "password": s.password,
            "private_key_path": s.private_key_path,
            "private_key_password": s.private_key_passphrase,
            "role": s.role,
        }
        arguments: dict[str, Any] = {"session_parameters": {"TIMEZONE": "UTC", "QUERY_TAG": f"c360 {purpose}"}}
        if s.token:
            arguments |= {"token": s.token, "authenticator": "oauth"}
        if s.host:
            arguments |= {"host": s.host, "port": s.port, "protocol": s.protocol}
        resource = SnowflakeResource(
            account=s.account,
            user=s.user,
            database=s.database,
            warehouse=s.warehouse,
            additional_snowflake_connection_args=arguments | self.connection_arguments,
            **{name: value for name, value in stated.items() if value},
        )
        with resource.get_connection() as connection:
            yield _SnowflakeSession(connection)

    @contextmanager
    def reading(self, wait: float | None = None) -> Iterator[Session]:
        with self.writing("reading") as session:
            yield session

    @contextmanager
    def held(self, purpose: str) -> Iterator[None]:
        yield


class _SnowflakeSession:
    _TYPES = {TEXT: "varchar", INTEGER: "bigint", DECIMAL: "decimal(18,4)", DATE: "date", TIMESTAMP: "timestamp_ntz(6)"}

    def __init__(self, connection: Any) -> None:
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

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("create table if not exists staging.load_turn (taken_at timestamp_ntz(6))")
        if not self.rows("select 1 from staging.load_turn"):
            self.execute("insert into staging.load_turn values (null)")
        self.execute("begin")
        try:
            # An update locks the table until the commit: loads of two processes follow one another.
            self.execute("update staging.load_turn set taken_at = current_timestamp::timestamp_ntz")
            yield
        except BaseException:
            self.execute("rollback")
            raise
        self.execute("commit")

    def ensure(self, table: str, columns: Mapping[str, str]) -> None:
        self.execute(f"create schema if not exists {table.split('.')[0]}")
        shape = ", ".join(f"{name} {self._TYPES[kind]}" for name, kind in columns.items())
        self.execute(f"create table if not exists {table} ({shape})")
        self.execute(f"select * from {table} limit 0")
        there = {d[0].lower() for d in self._cursor.description or []}
        for name, kind in columns.items():
            if name not in there:
                self.execute(f"alter table {table} add column {name} {self._TYPES[kind]}")

    def put(self, files: Sequence[Path]) -> str:
        self.execute("create temporary stage if not exists staging.c360_load")
        place = f"@staging.c360_load/{time.time_ns()}"
        for file in files:
            self.execute(f"put 'file://{file}' {place} auto_compress=false")
        return place

    def load(self, table: str, columns: Sequence[str], source: str) -> None:
        self.execute(
            f"copy into {table} from {source} file_format = (type = parquet use_logical_type = true) "
            "match_by_column_name = case_insensitive"
        )

    def called(self, function: str, instants: Sequence[datetime]) -> str:
        return f"table({function}({literals(instants)}))"
