"""Backup: the state of a home as files with their digests, taken while it is at work, and a home made of such files.

Belongs here: what is state, in which order it is copied, and that what is restored is what was copied. The warehouse is
copied first, under its lock, and S3 after it, so that S3 has every object that the copied ledger knows; what landed in
between is simply new to it. What lives elsewhere (Snowflake, an S3 of one's own, PostgreSQL) has backups of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from c360_assets import lease, local
from c360_assets.settings import Settings
from c360_assets.warehouse import Warehouse

MANIFEST = "backup.json"
OBJECTS = Path("s3") / "objects"
# Beside the warehouse and S3. Tables that are served, dbt's files and what is spooled are made anew.
_STATE = ("dagster", "forgotten", "erasure.key", "serving.sqlite", "report.html")
_SQLITE = (".db", ".sqlite")
_META = ".meta.json"
_TRIES = 20
_ASIDE = ".before-"


class BackupError(RuntimeError):
    """A backup cannot be made or used; the text says which file, why, and what to do."""


def back_up(settings: Settings, warehouse: Warehouse, target: Path) -> dict[str, Any]:
    """Writes the state of the home into the folder, which is there only when it is whole; returns its manifest.

    Raises:
        BackupError: if the folder is there already, or there is nothing to copy.
        WarehouseBusy: if the warehouse cannot be had.
    """
    if target.exists():
        raise BackupError(f"{target} is there already: name a folder that is not")
    if not settings.home.is_dir():
        raise BackupError(f"there is no home {settings.home}: nothing to back up")
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, mode=0o700)
    elsewhere = []
    began = datetime.now(UTC)
    if settings.warehouse == "duckdb":
        with warehouse.copied(unfinished):
            pass
    else:
        elsewhere.append(
            f"the warehouse: database {settings.snowflake.database} of Snowflake, by Time Travel or a clone"
        )
    if settings.s3_endpoint:
        elsewhere.append(f"S3: bucket {settings.bucket}, by its versions or a replica")
    else:
        for meta in sorted((settings.home / OBJECTS).rglob(f"*{_META}")):
            _copy_object(meta, unfinished / meta.relative_to(settings.home))
    for name in _STATE:
        for path in _files_of(settings.home / name):
            _copy(path, unfinished / path.relative_to(settings.home))
    if settings.serving:
        elsewhere.append("what is served: made anew by c360 sync --all")
    manifest = {
        "c360": version("c360"),
        "made_at": began.isoformat(timespec="seconds"),
        "home": str(settings.home),
        "elsewhere": elsewhere,
        "files": {
            str(path.relative_to(unfinished)): {"size": path.stat().st_size, "sha256": _digest(path)}
            for path in _files_of(unfinished)
        },
    }
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    _written(unfinished)
    unfinished.rename(target)
    return manifest


def checked(source: Path) -> dict[str, Any]:
    """The manifest of a backup whose every file is as it was written.

    Raises:
        BackupError: if it is none, or a file is gone, changed or not of it.
    """
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text())
        files = manifest["files"]
    except (OSError, ValueError, KeyError):
        raise BackupError(f"{source} is no backup: it has no {MANIFEST} that can be read") from None
    there = {str(path.relative_to(source)) for path in _files_of(source)} - {MANIFEST}
    for name in sorted(files.keys() ^ there):
        raise BackupError(f"{source}: file {name} is {'gone' if name in files else 'not of this backup'}; take another")
    for name, told in files.items():
        if _digest(source / name) != told["sha256"]:
            raise BackupError(f"{source}: file {name} is not as it was written; take another backup")
    return manifest


def restore(
    settings: Settings, source: Path, *, replaces: bool, finish: Callable[[Path], None] = lambda _: None
) -> Path | None:
    """Makes the home of the backup; returns where the former one is now, if there was one.

    `finish`: what is to be done to the new home before it takes its place.

    Raises:
        BackupError: if the backup is not whole, something is at work in the home, or it holds something and is not to
            be replaced.
    """
    checked(source)
    home = settings.home
    held = [name for name in ("warehouse.duckdb", str(OBJECTS), *_STATE) if (home / name).exists()]
    if held and not replaces:
        raise BackupError(
            f"{home} holds {', '.join(held)}: say --replace, which puts it aside, or name another C360_HOME"
        )
    at_work = lease.holder(home) or local.running_s3(home)
    if at_work:
        raise BackupError(f"something is at work in {home}: {at_work}; stop it first")
    made = _making(home)
    local.end_s3(made)  # of one that was killed
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(source, made, ignore=shutil.ignore_patterns(MANIFEST))
    finish(made)
    _written(made)
    aside = None
    if home.exists():
        aside = home.with_name(f"{home.name}{_ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%S}")
        home.rename(aside)
    home.parent.mkdir(parents=True, exist_ok=True)
    made.rename(home)
    return aside


def put_back(home: Path) -> Path | None:
    """The home that a restore had put aside when it was broken off, in its place again; returns where it was."""
    aside = sorted(home.parent.glob(f"{home.name}{_ASIDE}*"))
    if home.exists() or not _making(home).is_dir() or not aside:
        return None
    aside[-1].rename(home)
    return aside[-1]


def _making(home: Path) -> Path:
    """Where a home is made before it takes its place."""
    return home.with_name(f"{home.name}.restoring")


def _files_of(place: Path) -> Iterator[Path]:
    """Files of SQLite's own beside its databases are part of these."""
    found = [place] if place.is_file() else sorted(place.rglob("*"))
    yield from (path for path in found if path.is_file() and not path.name.endswith(("-wal", "-shm", "-journal")))


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix not in _SQLITE:
            shutil.copy2(path, target)
            return
        # A database that is written to meanwhile is copied as it is at one instant.
        read = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)
        with closing(read), closing(sqlite3.connect(target)) as write:
            read.backup(write)
        target.chmod(path.stat().st_mode)
    except FileNotFoundError:
        target.unlink(missing_ok=True)  # a run was pruned meanwhile


def _copy_object(meta: Path, target: Path) -> None:
    """An object of the embedded S3 and what it states of itself, of the same instant.

    Raises:
        BackupError: if it is written to again and again.
    """
    body = meta.with_name(meta.name.removesuffix(_META))
    target.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        try:
            before = meta.read_bytes()
            told = json.loads(before)
            if not told.get("is_delete_marker"):
                shutil.copy2(body, target.with_name(body.name))
                is_whole = target.with_name(body.name).stat().st_size == told["size"]
            else:
                is_whole = True
            if is_whole and meta.read_bytes() == before:
                target.write_bytes(before)
                return
        except FileNotFoundError:
            if not meta.exists():
                target.with_name(body.name).unlink(missing_ok=True)
                return  # it was deleted
        time.sleep(0.05)
    raise BackupError(f"object {told['key']} is written to all the time; say it again")


def _digest(path: Path) -> str:
    with path.open("rb") as body:
        return hashlib.file_digest(body, "sha256").hexdigest()


def _written(folder: Path) -> None:
    """Returns when the disk has all of it."""
    for path in folder.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
