"""The drop folder: what is half there waits, what is landed moves aside, and nothing is lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError

from c360_assets import local
from c360_assets.drop import DropFolder
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket
from c360_assets.settings import Settings

Watch = Callable[..., list[tuple[str, str, str]]]


@pytest.fixture
def watch(tmp_path: Path, bucket: Bucket, feeds: dict[str, Feed]) -> Iterator[Watch]:
    """Watches the folder `drop` for so many seconds; what was landed."""
    (tmp_path / "drop").mkdir()

    def run(seconds: float, settle: float = 0.4, bucket: Bucket = bucket) -> list[tuple[str, str, str]]:
        until = time.monotonic() + seconds
        folder = DropFolder(tmp_path / "drop", bucket, feeds["customers"], settle=settle, say=print)
        return list(folder.watch(lambda: time.monotonic() > until))

    yield run


def body(bucket: Bucket, name: str) -> bytes:
    key = f"{bucket.prefix}/customers/{name}"
    return bytes(bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read())


def test_a_file_is_landed_and_moved_aside(watch: Watch, bucket: Bucket, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    (drop / "customer_20260301120000.csv").write_text("customer_id\n1\n")
    (drop / ".hidden.csv").write_text("x")
    (drop / "coming.csv.part").write_text("x")
    (landed,) = watch(1.5)
    assert landed[0].endswith("customers/customer_20260301120000.csv") and landed[2] == "new"
    assert body(bucket, "customer_20260301120000.csv") == b"customer_id\n1\n"
    assert sorted(p.name for p in drop.iterdir()) == [".hidden.csv", "coming.csv.part", "landed"]
    assert (drop / "landed" / "customer_20260301120000.csv").read_text() == "customer_id\n1\n"
    # The same name again with something else: both are kept, and S3 has the later.
    (drop / "customer_20260301120000.csv").write_text("customer_id\n2\n")
    assert [each[2] for each in watch(1.5)] == ["overwritten"]
    assert (drop / "landed" / "customer_20260301120000.2.csv").read_text() == "customer_id\n2\n"


def test_a_file_that_is_still_written_waits_until_it_is_whole(watch: Watch, bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "drop" / "slow.csv"

    def write() -> None:
        with path.open("w") as out:
            for number in range(12):
                out.write(f"line {number}\n")
                out.flush()
                time.sleep(0.2)

    writer = threading.Thread(target=write)
    writer.start()
    landed = watch(4.5)
    writer.join()
    assert [each[2] for each in landed] == ["new"]
    assert body(bucket, "slow.csv").decode().count("line") == 12


def test_while_s3_is_away_files_stay_where_they_are(
    watch: Watch, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Away:
        left = 2

        def __getattr__(self, name: str) -> Any:
            return getattr(bucket.client, name)

        def upload_file(self, *told: Any, **more: Any) -> None:
            if self.left:
                self.left -= 1
                answer: Any = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
                try:
                    raise ClientError(answer, "PutObject")
                except ClientError as error:  # as boto3 has it
                    raise S3UploadFailedError(f"failed to upload: {error}")  # noqa: B904
            bucket.client.upload_file(*told, **more)

    (tmp_path / "drop" / "a.csv").write_text("customer_id\n1\n")
    landed = watch(4, bucket=replace(bucket, client=Away()))
    assert [each[2] for each in landed] == ["new"] and "a.csv waits" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_or_moved_holds_up_no_other(
    watch: Watch, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that lays files down gives them to us a moment later; root may read all, so it is told here."""
    drop, opened = tmp_path / "drop", Path.open

    def refused(path: Path, *told: Any, **more: Any) -> Any:
        if path.name == "locked.csv":
            raise PermissionError(13, "Permission denied")
        return opened(path, *told, **more)

    for name in ("locked.csv", "sound.csv"):
        (drop / name).write_text("customer_id\n1\n")
    (drop / "landed").touch()  # no folder
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)
        assert watch(1.5) == []
    said = capsys.readouterr().out
    assert "locked.csv waits: it cannot be read: Permission denied" in said
    assert "sound.csv is landed, and cannot be moved aside" in said
    (drop / "landed").unlink()
    assert sorted(each[2] for each in watch(1.5)) == ["new", "same"]


def test_kill_9_between_putting_and_moving_loses_nothing(tmp_path: Path) -> None:
    settings = Settings.load({"C360_HOME": str(tmp_path / "home")})
    drop = tmp_path / "drop"
    drop.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("C360_", "AWS_"))}
    command = [
        Path(sys.executable).with_name("c360"),
        "land",
        "--watch",
        str(drop),
        "--feed",
        "customers",
        "--settle",
        "0.2",
    ]
    names = {f"customer_2026030112{n:04d}.csv" for n in range(150)}
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        for name in sorted(names):
            (drop / name).write_text(f"customer_id\n{name}\n")
        for _ in range(4):
            process = subprocess.Popen(
                command, env=environment | {"C360_HOME": str(settings.home)}, stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = subprocess.Popen(
            command, env=environment | {"C360_HOME": str(settings.home)}, stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while len(list((drop / "landed").iterdir())) < len(names) and time.monotonic() < until:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
        there = {o["Key"].rsplit("/", 1)[1] for page in pages for o in page["Contents"]}
    assert there == names == {p.name for p in (drop / "landed").iterdir()}
