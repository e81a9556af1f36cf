"""Settings: what the environment says, read once, validated, frozen.

Belongs here: names, defaults and validation of every setting. Nothing else reads the environment, and there is no
fallback environment: an unknown or malformed setting is an error that names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROJECT = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """A setting is unknown or cannot be what it says; the text names it, its value and the remedy."""


class ProjectError(RuntimeError):
    """The dbt project cannot be read; the text holds what dbt said."""


@dataclass(frozen=True)
class Snowflake:
    """How to reach Snowflake. `private_key_path`, `password` or `token` authenticates, in that order.

    `warehouse` does all work for which `warehouse_load`, `warehouse_transform` or `warehouse_read` names no
    other.
    """

    account: str = ""
    user: str = ""
    authenticator: str = ""
    password: str = field(default="", repr=False)
    private_key_path: str = ""
    private_key_passphrase: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    role: str = ""
    warehouse: str = ""
    warehouse_load: str = ""
    warehouse_transform: str = ""
    warehouse_read: str = ""
    database: str = "C360"
    host: str = ""
    port: int = 443
    protocol: str = "https"

    @property
    def way_in(self) -> str:
        """The way to authenticate, in Snowflake's word for it."""
        if self.authenticator:
            return self.authenticator.lower()
        return "snowflake_jwt" if self.private_key_path else "snowflake" if self.password else "oauth"

    def problem(self) -> str | None:
        """Why these settings reach nothing, with the remedy; None where nothing speaks against them."""
        missing = [n for n in ("account", "user", "warehouse") if not getattr(self, n)]
        if missing:
            return f"C360_WAREHOUSE is snowflake, but {', '.join(f'SNOWFLAKE_{n.upper()}' for n in missing)} is not set"
        if self.way_in == "externalbrowser":
            return (
                "SNOWFLAKE_AUTHENTICATOR is externalbrowser, which needs a person at a browser at every start; "
                "use a key: SNOWFLAKE_PRIVATE_KEY_PATH"
            )
        if self.way_in not in WAYS_IN:
            return f"SNOWFLAKE_AUTHENTICATOR is '{self.authenticator}'; it may be: {', '.join(WAYS_IN)}"
        needed = WAYS_IN[self.way_in]
        if not getattr(self, needed):
            named = "SNOWFLAKE_" + needed.upper()
            if self.authenticator:
                return f"SNOWFLAKE_AUTHENTICATOR is {self.way_in}, but {named} is not set"
            return (
                "C360_WAREHOUSE is snowflake, but none of SNOWFLAKE_PRIVATE_KEY_PATH, SNOWFLAKE_PASSWORD, "
                "SNOWFLAKE_TOKEN is set"
            )
        if needed == "private_key_path" and not Path(self.private_key_path).expanduser().is_file():
            return f"SNOWFLAKE_PRIVATE_KEY_PATH is '{self.private_key_path}', and there is no such file"
        return None


# Ways to authenticate that need nobody at the keyboard, and what each needs.
WAYS_IN = {
    "snowflake_jwt": "private_key_path",
    "snowflake": "password",
    "oauth": "token",
    "programmatic_access_token": "token",
}


@dataclass(frozen=True)
class Settings:
    """Everything that may differ between two installations. Sizes in bytes, times in seconds."""

    home: Path = Path(".c360")
    bucket: str = "c360-landing"
    prefix: str = "stream_data"
    warehouse: str = "duckdb"
    batch_objects: int = 500
    batch_bytes: int = 512 * 1024 * 1024
    memory_mb: int = 3000
    wait: float = 60.0
    sensor_interval: int = 30
    loading: str = "read"
    pipe_patience: float = 300.0
    trace: int = 0
    erasure_key: str = field(default="", repr=False)
    alert_webhook: str = field(default="", repr=False)
    alert_smtp: str = field(default="", repr=False)
    alert_from: str = ""
    alert_to: tuple[str, ...] = ()
    serving: str = field(default="", repr=False)
    api_public_key: str = ""
    api_issuer: str = ""
    api_audience: str = ""
    api_rate: float = 1000.0
    api_cors: tuple[str, ...] = ()
    s3_endpoint: str = ""
    events_queue: str = ""
    kafka_bootstrap: str = ""
    kafka_config: str = ""
    dbt_project: Path = PROJECT / "dbt"
    dagster_config: Path = PROJECT / "dagster.yaml"
    rehearsal: bool = False
    snowflake: Snowflake = field(default_factory=Snowflake)

    @property
    def duckdb_path(self) -> Path:
        return self.home / "warehouse.duckdb"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def dbt_home(self) -> Path:
        """Where dbt keeps its manifest, results and logs: nothing is written into the project."""
        return self.home / "dbt"

    @property
    def serving_url(self) -> str:
        """Where the serving store is, as SQLAlchemy has it; a file of the home if nothing else is said."""
        return self.serving or f"sqlite:///{self.home / 'serving.sqlite'}"

    @property
    def erasure_key_file(self) -> Path:
        """The key that hashes who is forgotten, where no setting states it."""
        return self.home / "erasure.key"

    @property
    def spool(self) -> Path:
        return self.home / "spool"

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from `environment` (the process's own by default).

        Raises:
            SettingsError: for an unknown `C360_*` name, or a value that its setting cannot be.
        """
        env = os.environ if environment is None else environment
        unknown = sorted(n for n in env if n.startswith("C360_") and n not in _C360 and n not in _FOR_DBT)
        if unknown:
            raise SettingsError(f"setting {unknown[0]} is unknown; there are: {', '.join(sorted(_C360))}")
        values: dict[str, Any] = {}
        for name, attribute in _C360.items():
            if env.get(name):
                values[attribute] = _parsed(name, env[name], type(getattr(cls, attribute)))
        snowflake: dict[str, Any] = {}
        for f in fields(Snowflake):
            name = f"SNOWFLAKE_{f.name.upper()}"
            if env.get(name):
                snowflake[f.name] = _parsed(name, env[name], type(f.default))
        settings = cls(**values, snowflake=Snowflake(**snowflake))
        return settings._checked()

    def _checked(self) -> Settings:
        if self.warehouse not in ("duckdb", "snowflake"):
            raise SettingsError(f"C360_WAREHOUSE is '{self.warehouse}'; it may be: duckdb, snowflake")
        if self.warehouse == "snowflake" and (problem := self.snowflake.problem()):
            raise SettingsError(problem)
        if self.loading not in ("read", "copy", "pipe"):
            raise SettingsError(f"C360_LOADING is '{self.loading}'; it may be: read, copy, pipe")
        if self.loading != "read" and self.warehouse != "snowflake":
            raise SettingsError(
                f"C360_LOADING is {self.loading}, which is for C360_WAREHOUSE=snowflake; leave it at read"
            )
        if self.alert_smtp:
            if urlsplit(self.alert_smtp).scheme not in ("smtp", "smtps"):
                raise SettingsError("C360_ALERT_SMTP is no smtp://user:password@host:port or smtps://...")
            for name in ("C360_ALERT_FROM", "C360_ALERT_TO"):
                if not getattr(self, _C360[name]):
                    raise SettingsError(f"C360_ALERT_SMTP is set, but {name} is not")
        if not self.dagster_config.expanduser().is_file():
            raise SettingsError(f"C360_DAGSTER_CONFIG is '{self.dagster_config}', and there is no such file")
        if self.kafka_config and not Path(self.kafka_config).expanduser().is_file():
            raise SettingsError(f"KAFKA_CONFIG is '{self.kafka_config}', and there is no such file")
        for name, attribute in _C360.items():
            value = getattr(self, attribute)
            if isinstance(value, int | float) and not 0 < value < float("inf") and attribute != "trace":
                raise SettingsError(f"{name} is {value}; it must be a number greater than 0")
        # Resolved here, once: dbt and Dagster change the working directory.
        object.__setattr__(self, "home", self.home.expanduser().absolute())
        object.__setattr__(self, "dbt_project", self.dbt_project.expanduser().absolute())
        object.__setattr__(self, "dagster_config", self.dagster_config.expanduser().absolute())
        object.__setattr__(self, "prefix", self.prefix.strip("/"))
        if self.snowflake.private_key_path:
            path = str(Path(self.snowflake.private_key_path).expanduser().absolute())
            object.__setattr__(self, "snowflake", replace(self.snowflake, private_key_path=path))
        return self


_C360 = {
    "C360_HOME": "home",
    "C360_BUCKET": "bucket",
    "C360_PREFIX": "prefix",
    "C360_WAREHOUSE": "warehouse",
    "C360_BATCH_OBJECTS": "batch_objects",
    "C360_BATCH_BYTES": "batch_bytes",
    "C360_MEMORY_MB": "memory_mb",
    "C360_WAIT": "wait",
    "C360_SENSOR_INTERVAL": "sensor_interval",
    "C360_LOADING": "loading",
    "C360_PIPE_PATIENCE": "pipe_patience",
    "C360_TRACE": "trace",
    "C360_ERASURE_KEY": "erasure_key",
    "C360_ALERT_WEBHOOK": "alert_webhook",
    "C360_ALERT_SMTP": "alert_smtp",
    "C360_ALERT_FROM": "alert_from",
    "C360_ALERT_TO": "alert_to",
    "C360_SERVING_URL": "serving",
    "C360_API_PUBLIC_KEY": "api_public_key",
    "C360_API_ISSUER": "api_issuer",
    "C360_API_AUDIENCE": "api_audience",
    "C360_API_RATE": "api_rate",
    "C360_API_CORS": "api_cors",
    "C360_DBT_PROJECT": "dbt_project",
    "C360_DAGSTER_CONFIG": "dagster_config",
    "C360_EVENTS_QUEUE": "events_queue",
    "AWS_ENDPOINT_URL": "s3_endpoint",
    "KAFKA_BOOTSTRAP": "kafka_bootstrap",
    "KAFKA_CONFIG": "kafka_config",
}
# Handed to dbt by transform.py, so they are there when dbt starts Python of ours.
_FOR_DBT = {"C360_DBT_TARGET", "C360_DUCKDB_PATH", "C360_DUCKDB_MEMORY", "C360_RUN"}


def _parsed(name: str, text: str, kind: type) -> Any:
    if issubclass(kind, Path):
        return Path(text)
    if kind is str:
        return text
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    number: type[int] | type[float] = int if kind is int else float
    try:
        return number(text)
    except ValueError:
        raise SettingsError(f"{name} is '{text}'; it must be a {'whole ' if kind is int else ''}number") from None
