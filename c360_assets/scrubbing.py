"""Scrubbing: what Dagster and dbt keep of messages and logs, with a pseudonym where they name a person.

Belongs here: the files and the SQLite databases of a home. What a run makes anew is not scrubbed but made anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from c360_assets.erasure import ErasureError
from c360_assets.erasure_proof import Marks, files_of, in_database, tables_of

_BESIDE = ("-wal", "-shm")  # of SQLite's own, beside its databases


def scrub(folders: Iterable[Path], marks: Marks, pseudonym: str) -> list[str]:
    """Puts the pseudonym in place of every mark in the files of the folders; returns the files that had one.

    Raises:
        ErasureError: if a database cannot be written, because something else is at work in it.
    """
    found = []
    for folder in folders:
        for path in files_of(folder):
            if path.name.endswith(_BESIDE):
                continue
            with suppress(FileNotFoundError):  # a run was pruned meanwhile
                if path.suffix == ".db":
                    had = _scrub_database(path, marks, pseudonym)
                else:
                    data = path.read_bytes()
                    had = marks.pattern.search(data) is not None
                    if had:
                        path.write_bytes(marks.without(data, pseudonym))
                if had:
                    found.append(f"{folder.name}/{path.relative_to(folder)}")
    return found


def _scrub_database(path: Path, marks: Marks, pseudonym: str) -> bool:
    """Every text of every table of an SQLite file, and nothing of it in free pages or in the log."""
    logs = [each for each in (path, path.with_name(path.name + "-wal")) if each.exists()]
    if not in_database(path, marks) and not any(marks.pattern.search(each.read_bytes()) for each in logs):
        return False

    def scrubbed(value: str | bytes) -> str | bytes:
        if isinstance(value, bytes):
            return marks.without(value, pseudonym)
        return marks.without(value.encode("utf-8", "surrogateescape"), pseudonym).decode("utf-8", "surrogateescape")

    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=30, isolation_level=None)
        with closing(connection):
            connection.create_function("scrubbed", 1, scrubbed)
            connection.create_function("has_mark", 1, marks.in_value)
            for table, columns in tables_of(connection):
                for column in columns:
                    connection.execute(
                        f'update "{table}" set "{column}" = scrubbed("{column}") where has_mark("{column}")'
                    )
            connection.execute("vacuum")
            connection.execute("pragma wal_checkpoint(truncate)")
    except sqlite3.Error as error:
        raise ErasureError(
            f"{path} cannot be scrubbed: {error}; stop what is at work in the home (c360 up), then forget again"
        ) from error
    return True
