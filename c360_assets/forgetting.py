"""Forgetting: one person out of everything, step by step, and a certificate of where they were and that they are gone.

Belongs here: the order of the steps. Each may be broken off and done again: who has begun to be forgotten is in the
ledger before anything else happens, so that from then on no load brings them back.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from c360_assets import erasure_proof as proof
from c360_assets import local, persons, runs, staging
from c360_assets.cli import DONE
from c360_assets.entities import declared
from c360_assets.erasure import ErasureError, Found, Scope, erase, exactly, forgotten_of
from c360_assets.erasure_proof import Marks
from c360_assets.feeds import Feed, load_feeds
from c360_assets.landing import Bucket
from c360_assets.redaction import PERSON
from c360_assets.settings import Settings
from c360_assets.store import Store
from c360_assets.warehouse import NoWarehouse, Session, Warehouse, open_warehouse

Say = Callable[[str], None]
PREDICTED = "gold.customer_value"


def forget(settings: Settings, instance: dg.DagsterInstance, customer_id: str, reason: str, say: Say) -> dict[str, Any]:
    """Forgets the person and returns the certificate; `clean` in it says whether nothing of them was found after it.

    Raises:
        NobodyFound: if nothing names the customer, and nobody of that id was to be forgotten before.
        ErasureError: if an object cannot be written without the person, or what is made of staging cannot be made anew.
    """
    warehouse = open_warehouse(settings, announce=say)
    bucket = local.landing_bucket(settings)
    feeds = load_feeds([settings.dbt_project / "models" / "staging"])
    entity = declared(settings.dbt_project).get(PERSON)
    if entity is None or len(entity.key) != 1:
        raise ErasureError(f"the project {settings.dbt_project} has no entity {PERSON} with a key of one column")
    forgotten = forgotten_of(settings)(bucket)
    again = forgotten.pseudonym_of(customer_id) is not None
    held, marks = _held(warehouse, customer_id, entity.personal, again)
    say(f"found in {len(held)} tables" if held else "no table names this customer any more")
    forgotten = forgotten.add(bucket, settings.erasure_key_file, customer_id, reason)
    pseudonym = forgotten.pseudonym_of(customer_id)
    assert pseudonym is not None
    found = _erased(warehouse, bucket, feeds, customer_id, pseudonym)
    objects = sorted({key for each in found.values() for key in each.objects})
    say(f"{len(objects)} objects written anew; everything is made anew of what is left")
    code = runs.sync(settings, instance, rebuild=True, say=say)
    with warehouse.writing("forgetting") as session:
        _forget_predictions(session, customer_id)
    kept = [text for text in (warehouse.purge(),) if text]
    Store(settings.serving_url).purge()
    _scrub(settings, marks, pseudonym)
    left = _left(settings, warehouse, bucket, feeds, marks)
    certificate = {
        "pseudonym": pseudonym,
        "reason": reason,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "found_in_tables": held,
        "objects_written_anew": len(objects),
        "feeds": {
            name: {n: v for n, v in asdict(each).items() if n != "objects"} | {"objects": len(each.objects)}
            for name, each in found.items() if each
        },
        "searched_for": f"the id and {len(marks.values)} values that nobody else has",
        "searched": ["every text column of every table", "every object of every feed", "every file of the home"],
        "left": left,
        "kept_by_others": kept,
        "clean": not left and code == DONE,
    }  # fmt: skip
    if code != DONE and not left:
        certificate["left"] = {"run": "not everything was made anew: c360 sync --rebuild says why; then forget again"}
    folder = settings.home / "forgotten"
    folder.mkdir(exist_ok=True)
    (folder / f"{pseudonym}.json").write_text(json.dumps(certificate, indent=1) + "\n")
    return certificate


def _held(
    warehouse: Warehouse, customer_id: str, personal: tuple[str, ...], again: bool
) -> tuple[Mapping[str, int], Marks]:
    """{table: rows that name them}, and their marks; of one whose forgetting was broken off there may be neither."""
    try:
        with warehouse.reading() as session:
            held = persons.held(session, customer_id)
            return {table: len(rows) for table, rows in held.items()}, proof.marks_of(session, customer_id, personal)
    except (persons.NobodyFound, NoWarehouse):
        if again:
            return {}, Marks(customer_id)
        raise


def _erased(
    warehouse: Warehouse, bucket: Bucket, feeds: Mapping[str, Feed], customer_id: str, pseudonym: str
) -> dict[str, Found]:
    """Out of S3 and staging, a transaction for each feed."""
    found = {}
    people, scope = exactly(customer_id, pseudonym), Scope.of_text(customer_id)
    with warehouse.writing("forgetting") as session:
        staging.prepare_tables(session, list(feeds.values()))
        for feed in feeds.values():
            with session.transaction():
                batch, now = staging.next_batch(session)
                found[feed.name] = erase(session, bucket, feed, people, scope, batch, now)
    return found


def _forget_predictions(session: Session, customer_id: str) -> None:
    """What was foretold of them; the only table that no run of the graph makes anew."""
    if PREDICTED in session.tables():
        session.execute(f"delete from {PREDICTED} where customer_id = ?", [customer_id])


def _scrub(settings: Settings, marks: Marks, pseudonym: str) -> None:
    """Dagster's storage and dbt's files: where a message or a log names the person, the pseudonym stands then."""
    told = pseudonym.encode()
    for folder in (settings.dagster_home, settings.dbt_home):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if not path.is_file() or path.name.endswith(("-wal", "-shm")):
                continue
            logs = [path, *(p for p in (path.with_name(path.name + "-wal"),) if p.exists())]
            if not any(marks.pattern.search(each.read_bytes()) for each in logs):
                continue
            if path.suffix == ".db":
                _scrub_database(path, marks, pseudonym)
            else:
                path.write_bytes(marks.pattern.sub(told, path.read_bytes()))


def _scrub_database(path: Path, marks: Marks, pseudonym: str) -> None:
    """Every text of every table of an SQLite file, and nothing of it in free pages or in the log."""

    def scrubbed(text: str) -> str:
        return marks.pattern.sub(pseudonym.encode(), text.encode()).decode()

    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.create_function("scrubbed", 1, scrubbed)
        tables = connection.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
        for (table,) in tables.fetchall():
            for _, column, *_ in connection.execute(f'pragma table_info("{table}")').fetchall():
                for text in marks.texts:
                    connection.execute(
                        f'update "{table}" set "{column}" = scrubbed("{column}") '
                        f'where typeof("{column}") = \'text\' and instr("{column}", ?) > 0',
                        [text],
                    )
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)")


def _left(
    settings: Settings, warehouse: Warehouse, bucket: Bucket, feeds: Mapping[str, Feed], marks: Marks
) -> dict[str, int]:
    """{where something of the person still is: how often}"""
    with warehouse.reading() as session:
        left = proof.in_tables(session, marks)
    left |= {f"s3://{bucket.name}/{key}": n for key, n in proof.in_objects(bucket, feeds, marks).items()}
    return left | {f"file {name}": n for name, n in proof.in_files(settings.home, marks).items()}
