"""Settings: read once from the environment; what is unknown or cannot be is told by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from c360_assets.settings import PROJECT, Settings, SettingsError

SNOWFLAKE = {
    "C360_WAREHOUSE": "snowflake",
    "SNOWFLAKE_ACCOUNT": "a",
    "SNOWFLAKE_USER": "u",
    "SNOWFLAKE_WAREHOUSE": "w",
    "SNOWFLAKE_PASSWORD": "hush",
}


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.load({})
    assert settings.home == Path.cwd() / ".c360"
    assert (settings.bucket, settings.prefix, settings.warehouse) == ("c360-landing", "stream_data", "duckdb")
    assert (settings.wait, settings.trace, settings.s3_endpoint) == (60.0, 0, "")
    assert settings.dbt_project == PROJECT / "dbt"
    assert settings.duckdb_path == settings.home / "warehouse.duckdb"


def test_every_setting_is_read_and_typed() -> None:
    settings = Settings.load(
        {
            "C360_HOME": "/tmp/x",
            "C360_BUCKET": "b",
            "C360_PREFIX": "/a/b/",
            "C360_BATCH_OBJECTS": "7",
            "C360_BATCH_BYTES": "8",
            "C360_MEMORY_MB": "64",
            "C360_WAIT": "0.5",
            "C360_SENSOR_INTERVAL": "9",
            "C360_TRACE": "0",
            "C360_ALERT_WEBHOOK": "http://hook",
            "C360_DBT_PROJECT": "/tmp/dbt",
            "AWS_ENDPOINT_URL": "http://s3",
        }
    )
    assert (settings.home, settings.bucket, settings.prefix) == (Path("/tmp/x"), "b", "a/b")
    assert (settings.batch_objects, settings.batch_bytes, settings.wait, settings.sensor_interval) == (7, 8, 0.5, 9)
    assert settings.memory_mb == 64
    assert (settings.trace, settings.alert_webhook) == (0, "http://hook")
    assert (settings.dbt_project, settings.s3_endpoint) == (Path("/tmp/dbt"), "http://s3")


def test_paths_are_absolute_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert Settings.load({"C360_HOME": "here"}).home == tmp_path / "here"
    assert Settings.load({"C360_HOME": "~/there"}).home == tmp_path / "me" / "there"


def test_the_process_environment_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C360_BUCKET", "from-outside")
    assert Settings.load().bucket == "from-outside"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"C360_HOEM": "/tmp"}, ("C360_HOEM", "unknown", "C360_HOME")),
        ({"C360_WAREHOUSE": "duck"}, ("C360_WAREHOUSE", "'duck'", "duckdb, snowflake")),
        ({"C360_WAIT": "long"}, ("C360_WAIT", "'long'", "number")),
        ({"C360_WAIT": "0"}, ("C360_WAIT", "greater than 0")),
        ({"C360_WAIT": "nan"}, ("C360_WAIT", "nan")),
        ({"C360_WAIT": "inf"}, ("C360_WAIT", "inf")),
        ({"C360_BATCH_OBJECTS": "1.5"}, ("C360_BATCH_OBJECTS", "'1.5'", "whole number")),
        ({"C360_BATCH_OBJECTS": "-1"}, ("C360_BATCH_OBJECTS", "-1")),
        ({"C360_BATCH_BYTES": "0"}, ("C360_BATCH_BYTES", "greater than 0")),
        ({"C360_SENSOR_INTERVAL": "soon"}, ("C360_SENSOR_INTERVAL", "'soon'")),
        ({"C360_WAREHOUSE": "snowflake"}, ("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER", "SNOWFLAKE_WAREHOUSE")),
        ({**SNOWFLAKE, "SNOWFLAKE_PASSWORD": ""}, ("SNOWFLAKE_PRIVATE_KEY_PATH", "SNOWFLAKE_PASSWORD", "SNOWFLAKE_TOKEN")),
        ({**SNOWFLAKE, "SNOWFLAKE_AUTHENTICATOR": "externalbrowser"}, ("browser", "SNOWFLAKE_PRIVATE_KEY_PATH")),
        ({**SNOWFLAKE, "SNOWFLAKE_AUTHENTICATOR": "kerberos"}, ("'kerberos'", "snowflake_jwt", "oauth")),
        ({**SNOWFLAKE, "SNOWFLAKE_AUTHENTICATOR": "oauth"}, ("oauth", "SNOWFLAKE_TOKEN is not set")),
        ({**SNOWFLAKE, "SNOWFLAKE_PRIVATE_KEY_PATH": "/no/key.p8"}, ("'/no/key.p8'", "no such file")),
        ({**SNOWFLAKE, "SNOWFLAKE_PORT": "https"}, ("SNOWFLAKE_PORT", "'https'", "whole number")),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_wrong_setting_is_told_with_its_name_its_value_and_the_remedy(
    environment: dict[str, str], told: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.load(environment)
    for part in told:
        assert part in str(error.value)


def test_what_is_handed_to_dbt_and_what_is_not_ours_is_no_unknown_setting() -> None:
    Settings.load({"C360_DBT_TARGET": "duckdb", "C360_DUCKDB_PATH": "/tmp/x", "PATH": "/bin", "XC360_A": "1"})


def test_an_empty_setting_is_as_good_as_none() -> None:
    assert Settings.load({"C360_HOME": "", "C360_WAIT": "", "AWS_ENDPOINT_URL": ""}) == Settings.load({})


def test_secrets_do_not_show() -> None:
    settings = Settings.load(
        {
            **SNOWFLAKE,
            "C360_ALERT_WEBHOOK": "http://hush",
            "SNOWFLAKE_TOKEN": "hush",
            "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": "hush",
        }
    )
    assert settings.snowflake.password == "hush"
    assert "hush" not in repr(settings)
