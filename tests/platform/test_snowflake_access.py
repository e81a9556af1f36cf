"""Ways into Snowflake as the connector and dbt send them, and secrets, which are sent there and shown nowhere.

fakesnow believes everybody; a proxy before it hears what is sent.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from c360_assets.landing import Bucket
from c360_assets.settings import Settings, Snowflake
from tests.emulator import on_fakesnow
from tests.parts import Platform, command_environment, on_both
from tests.proxy import LOGIN, Between, Fault, between

SECRET = "correct-horse-battery-staple"


@pytest.fixture
def network(fakesnow: int) -> Iterator[Between]:
    with between(fakesnow) as running:
        yield running


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key under a passphrase."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "key.p8"
    file.write_bytes(
        made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(SECRET.encode()),
        )
    )
    return file


@on_both
def test_every_way_in_is_the_same_for_our_loads_and_for_dbt(
    on_snowflake: Settings, bucket: Bucket, network: Between, key: Path
) -> None:
    reached = replace(on_snowflake.snowflake, port=network.port, password="")
    ways: list[tuple[Snowflake, str | None, str]] = [
        (replace(reached, private_key_path=str(key), private_key_passphrase=SECRET), "SNOWFLAKE_JWT", "TOKEN"),
        (replace(reached, token=SECRET), "OAUTH", "TOKEN"),
        (
            replace(reached, token=SECRET, authenticator="programmatic_access_token"),
            "PROGRAMMATIC_ACCESS_TOKEN",
            "TOKEN",
        ),
        (replace(reached, password=SECRET), None, "PASSWORD"),
    ]
    for settings, authenticator, sent in ways:
        assert settings.problem() is None
        platform = Platform(replace(on_snowflake, snowflake=settings), bucket)
        network.logins.clear()
        platform.load()
        loads = len(network.logins)
        platform.build("--select", "json_raw_data")
        assert 0 < loads < len(network.logins)
        for login in network.logins:
            assert (login.get("AUTHENTICATOR"), sent in login) == (authenticator, True)


def test_each_kind_of_work_has_the_warehouse_that_is_named_for_it(
    on_snowflake: Settings, bucket: Bucket, network: Between
) -> None:
    named = replace(
        on_snowflake.snowflake,
        port=network.port, warehouse_load="w_load", warehouse_transform="w_dbt", warehouse_read="w_read",
    )  # fmt: skip
    platform = Platform(replace(on_snowflake, snowflake=named), bucket)
    asked = []
    for work in (
        platform.load,
        lambda: platform.build("--select", "json_raw_data"),
        lambda: platform.rows("select 1"),
    ):
        network.paths.clear()
        work()
        asked.append({p.split("warehouse=")[1].split("&")[0] for p in network.paths if "warehouse=" in p})
    assert asked == [{"w_load"}, {"w_load", "w_dbt"}, {"w_read"}]
    # What S3 can give again is not kept twice; what was seen and decided is.
    made = [" ".join(sql.split()) for sql in network.statements]
    assert any(sql.startswith("create transient table if not exists staging.customers ") for sql in made)
    assert any(sql.startswith("create table if not exists staging.object_ledger ") for sql in made)


@on_both
def test_secrets_are_sent_to_snowflake_and_shown_nowhere(
    on_snowflake: Settings, bucket: Bucket, s3_endpoint: str, network: Between, key: Path, tmp_path: Path
) -> None:
    """A run that loads and builds and one that fails, by the command: all that it prints, and all that it leaves."""
    home = tmp_path / "home"
    bucket.client.put_object(
        Bucket=bucket.name, Key=f"{bucket.prefix}/customers/a.csv",
        Body=b"customer_id,first_name,updated_at,op\n1,Ada,2024-01-01,I\n",
    )  # fmt: skip
    environment = command_environment(home, bucket, s3_endpoint) | on_fakesnow(network.port)
    environment |= {
        "C360_DBT_PROJECT": str(Platform(on_snowflake, bucket).project),
        "AWS_SECRET_ACCESS_KEY": SECRET + "-aws",
        "C360_ALERT_WEBHOOK": f"http://127.0.0.1:9/{SECRET}",
        "SNOWFLAKE_PASSWORD": SECRET,
    }
    c360 = Path(sys.executable).with_name("c360")
    said = []
    for number, arguments in enumerate(
        (["sync"], ["sync"], ["status", "--format", "json"], ["snowflake", "bootstrap", "--print"])
    ):
        network.faults[:] = [Fault(LOGIN, answer=("390100", "Incorrect username or password was specified."), times=9)][
            : number == 1
        ]
        ran = subprocess.run([c360, *arguments], env=environment, capture_output=True, text=True)
        assert ran.returncode == (1 if number == 1 else 0), ran.stderr[-2000:]
        said.append(ran.stdout + ran.stderr)
    assert "user fake was refused" in said[1]
    assert network.logins and all(login["PASSWORD"] == SECRET for login in network.logins)
    assert [text for text in (*said, *network.statements) if SECRET in text] == []
    shown = [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert shown == []
    assert len([path for path in home.rglob("*") if path.is_file()]) > 20, "the run has left something to look at"
