"""Who was forgotten since a backup was made is in no home that is made of it, at whatever point the restore is killed."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from c360_assets import backup, commands_backup, local, registers, runs
from c360_assets.cli import DONE
from c360_assets.erasure import Scope, erase, exactly, forgotten_of
from c360_assets.remembering import Memory
from c360_assets.settings import Settings
from c360_assets.warehouse import open_warehouse
from tests.parts import Platform, minutes_long, on_duckdb, settings_at, without_shop

pytestmark = on_duckdb
HEAD = "customer_id,first_name,email,city,updated_at"
ROWS = ("CUST-7,Ann,ann7@example.org,Ulm,2026-01-01T00:00:00Z", "CUST-70,Bo,bo@example.org,Ulm,2026-01-01T00:00:00Z")


class Killed(BaseException):
    """Nothing of the program runs after it."""


def forgotten_at(home: Path) -> tuple[Settings, Path]:
    """A home in which CUST-7 was forgotten after a backup was made of it, and the backup."""
    settings = settings_at(home, C360_DBT_PROJECT=str(without_shop()))
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        platform = Platform(settings, bucket)
        platform.put("customer_20260101000000.csv", "\n".join([HEAD, *ROWS, ""]).encode())
        platform.load()
        with platform.warehouse.writing("test") as session:
            session.execute("create schema core")
            session.execute("create table core.customer as select customer_id, email from staging.customers")
        backup.back_up(settings, platform.warehouse, home.parent / "backup")
        told = forgotten_of(settings)(bucket).add(bucket, settings.erasure_key_file, "CUST-7", "asked")
        pseudonym = told.pseudonym_of("CUST-7")
        assert pseudonym is not None
        with platform.warehouse.writing("test") as session, session.transaction():
            registers.prepare_tables(session, list(platform.feeds.values()))
            batch, now = registers.next_batch(session)
            of = exactly("CUST-7", pseudonym)
            erase(session, bucket, platform.feeds["customers"], of, Scope.of_text("CUST-7"), batch, now)
        with platform.warehouse.writing("test") as session:
            session.execute("drop schema core cascade")
        platform.warehouse.purge()
    return settings, home.parent / "backup"


def restored(settings: Settings, source: Path, replaces: bool = True) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "sync", lambda *_, **__: DONE)
        assert commands_backup.restore(Namespace(source=source, replace=replaces), settings) == DONE


def traces(home: Path) -> list[str]:
    return [
        path.name
        for path in home.rglob("*")
        if path.is_file() and any(mark in path.read_bytes() for mark in (b"ann7@", b"CUST-7,"))
    ]


def kill_at(name: str, patch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any, **__: Any) -> Any:
        raise Killed

    kept: Callable[..., Path] = Path.rename

    def second_rename_dies(path: Path, target: Path) -> Path:
        if path.name.endswith(".restoring"):
            raise Killed
        return kept(path, target)

    if name == "carry":
        patch.setattr(Memory, "carry", dies)
    elif name == "taking out":
        patch.setattr("c360_assets.remembering.taken_out", dies)
    elif name == "between the renames":
        patch.setattr(Path, "rename", second_rename_dies)
    else:
        patch.setattr(runs, "sync", dies)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Without Dagster, which takes seconds: what a restore asks of it has tests of its own."""
    monkeypatch.setattr(local, "dagster_instance", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(local, "reap", lambda *_, **__: [])
    yield tmp_path / "home"
    for each in tmp_path.iterdir():
        local.end_s3(each)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("carry", marks=minutes_long),
        pytest.param("taking out", marks=minutes_long),
        pytest.param("between the renames", marks=minutes_long),
        "making anew",
    ],
)
def test_a_restore_that_is_killed_brings_nobody_back(home: Path, point: str) -> None:
    settings, source = forgotten_at(home)
    assert traces(source) and not traces(home / "s3" / "objects")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(point, patch)
        commands_backup.restore(Namespace(source=source, replace=True), settings)
    assert not home.exists() or not traces(home)
    restored(settings, source)
    assert traces(home) == []
    with local.embedded_s3(settings):
        assert forgotten_of(settings)(local.landing_bucket(settings)).pseudonym_of("CUST-7")
    platform = Platform(settings, None)  # type: ignore[arg-type]
    assert platform.rows("select customer_id from staging.customers") == [("CUST-70",)]
    # What was made of staging is for the next run to make.
    assert platform.rows("select count(*) from information_schema.tables where table_schema = 'core'") == [(0,)]


def test_another_home_learns_of_the_one_that_was_backed_up(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, source = forgotten_at(home)
    other = replace(settings, home=home.with_name("other"))
    restored(other, source, replaces=False)
    assert traces(other.home) == []
    assert "forget again" not in capsys.readouterr().err
    home.rename(home.with_name("gone"))
    lost = replace(settings, home=home.with_name("lost"))
    restored(lost, source, replaces=False)
    assert f"{home}, of which it is a backup, is not here: forget again" in capsys.readouterr().err


def test_a_backup_of_a_home_that_was_just_forgetting_brings_nobody_back(home: Path) -> None:
    """They were out of its objects and of staging already, and not yet out of what is made of these."""
    settings, _ = forgotten_at(home)
    middle, warehouse = home.parent / "middle", open_warehouse(settings)
    begun = home / "forgotten" / "forgotten-x.begun"
    begun.parent.mkdir(exist_ok=True)
    with local.embedded_s3(settings):
        begun.write_text("{}")
        with warehouse.writing("test") as session:
            session.execute("create schema core")
            session.execute("create table core.customer as select 'CUST-7' as customer_id, 'ann7@example.org' as email")
        backup.back_up(settings, warehouse, middle)
        with warehouse.writing("test") as session:
            session.execute("drop schema core cascade")
        warehouse.purge()
    begun.unlink()
    assert traces(middle) and not traces(home)
    restored(settings, middle)
    assert traces(home) == []
    assert Platform(settings, None).rows("select customer_id from staging.customers") == [("CUST-70",)]  # type: ignore[arg-type]
