"""Forgetting: one person out of everything, step by step, and a certificate of where they were and that they are gone.

Belongs here: the order of the steps. Each may be broken off and done again: who has begun to be forgotten is in the
ledger before anything else happens, so that from then on no load brings them back.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from c360_assets import erasure_proof as proof
from c360_assets import local, pending, persons, registers, runs
from c360_assets.cli import DONE
from c360_assets.entities import declared
from c360_assets.erasure import LEDGER_KEY, ErasureError, Found, Scope, erase, exactly, forgotten_of
from c360_assets.erasure_proof import Marks
from c360_assets.feeds import Feed, load_feeds
from c360_assets.landing import Bucket
from c360_assets.redaction import PERSON, PseudonymOf
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
    if not customer_id.strip():
        raise ErasureError("the id is empty: it would stand for everybody who has none")
    if persons.names(customer_id, reason):
        raise ErasureError("the reason names the person, and outlives them: say it without")
    warehouse = open_warehouse(settings, announce=say)
    bucket = local.landing_bucket(settings)
    feeds = load_feeds([settings.dbt_project / "models" / "staging"])
    entity = declared(settings.dbt_project).get(PERSON)
    if entity is None or len(entity.key) != 1:
        raise ErasureError(f"the project {settings.dbt_project} has no entity {PERSON} with a key of one column")
    again = forgotten_of(settings)(bucket).pseudonym_of(customer_id)
    notes = settings.home / "forgotten" / f"{again}.begun"
    held, marks = _held(warehouse, customer_id, entity.personal, notes if again else None)
    say(f"found in {len(held)} tables")
    # What cannot be written without them is told before anything is done.
    _erased(warehouse, bucket, feeds, customer_id, "", rehearses=True)
    with warehouse.writing("forgetting"):
        forgotten = forgotten_of(settings)(bucket).add(bucket, settings.erasure_key_file, customer_id, reason)
    pseudonym = forgotten.pseudonym_of(customer_id)
    assert pseudonym is not None
    # By what to know them, until nothing of them is left: what it is told from goes first.
    notes = notes.with_name(f"{pseudonym}.begun")
    notes.parent.mkdir(exist_ok=True)
    notes.touch(mode=0o600)
    notes.write_text(json.dumps({"held": dict(held), "values": marks.values}))
    found = _erased(warehouse, bucket, feeds, customer_id, pseudonym)
    objects = sorted({key for each in found.values() for key in each.objects})
    say(f"{len(objects)} objects written anew; everything is made anew of what is left")
    code = runs.sync(settings, instance, rebuild=True, say=say)
    with warehouse.writing("forgetting") as session:
        _forget_predictions(session, customer_id)
    kept = [text for text in (warehouse.purge(),) if text]
    Store(settings.serving_url).purge()
    _scrub(settings, marks, pseudonym)
    left = _left(settings, warehouse, bucket, feeds, marks, notes)
    if code != DONE:
        left["run"] = 1
        say("not everything was made anew: c360 sync --rebuild says why; then forget again")
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
        "clean": not left,
    }  # fmt: skip
    notes.with_suffix(".json").write_text(json.dumps(certificate, indent=1) + "\n")
    if not left:
        notes.unlink()
    return certificate


def _held(
    warehouse: Warehouse, customer_id: str, personal: tuple[str, ...], notes: Path | None
) -> tuple[Mapping[str, int], Marks]:
    """{table: rows that name them}, and their marks; `notes`: of a forgetting that has begun before."""
    told = json.loads(notes.read_text()) if notes is not None and notes.exists() else {"held": {}, "values": []}
    try:
        with warehouse.reading() as session:
            held = {table: len(rows) for table, rows in persons.held(session, customer_id).items()}
            marks = proof.marks_of(session, customer_id, personal)
    except (persons.NobodyFound, NoWarehouse):
        if notes is None:
            raise
        held, marks = {}, Marks(customer_id)
    values = tuple(dict.fromkeys([*told["values"], *marks.values]))
    return told["held"] or held, Marks(customer_id, values)


def _erased(
    warehouse: Warehouse,
    bucket: Bucket,
    feeds: Mapping[str, Feed],
    customer_id: str,
    pseudonym: str,
    *,
    rehearses: bool = False,
) -> dict[str, Found]:
    """Out of S3 and staging."""
    people, scope = exactly(customer_id, pseudonym or "nobody"), Scope.of_text(customer_id)
    return _taken_out(warehouse, bucket, feeds, people, scope, rehearses=rehearses)


def _taken_out(
    warehouse: Warehouse,
    bucket: Bucket,
    feeds: Mapping[str, Feed],
    people: PseudonymOf,
    scope: Callable[[str], Scope],
    *,
    rehearses: bool = False,
) -> dict[str, Found]:
    """A transaction for each feed."""
    found = {}
    with warehouse.writing("forgetting") as session:
        registers.prepare_tables(session, list(feeds.values()))
        if not rehearses:
            # From here on clean is of rows that staging has no more: whichever run comes next makes it anew.
            pending.prepare_marks(session)
            pending.note_rebuild(session)
        for feed in feeds.values():
            with session.transaction():
                batch, now = registers.next_batch(session)
                # What stands in base64 is found by reading it.
                within = Scope.of_all if feed.base64 else scope
                found[feed.name] = erase(session, bucket, feed, people, within, batch, now, rehearses=rehearses)
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
    settings: Settings, warehouse: Warehouse, bucket: Bucket, feeds: Mapping[str, Feed], marks: Marks, notes: Path
) -> dict[str, int]:
    """{where something of the person still is: how often}"""
    with warehouse.reading() as session:
        left = proof.in_tables(session, marks)
    left |= {f"s3://{bucket.name}/{key}": n for key, n in proof.in_objects(bucket, feeds, marks).items()}
    left |= {
        f"serving store, {table}": n
        for table, n in Store(settings.serving_url).found(marks.texts, marks.in_text).items()
    }
    return left | {f"file {name}": n for name, n in proof.in_files(settings.home, marks, [notes]).items()}


@dataclass(frozen=True)
class Memory:
    """Who is forgotten, as a home knows it that is put aside: its ledger, the key to it, its certificates."""

    ledger: dict[str, Any]
    key: str
    certificates: Mapping[str, bytes]

    @classmethod
    def of(cls, settings: Settings) -> Memory | None:
        """None where there is no home, or nobody is forgotten in it."""
        if not settings.home.is_dir():
            return None
        with local.embedded_s3(settings):
            bucket = local.landing_bucket(settings)
            bucket.ensure()
            forgotten = forgotten_of(settings)(bucket)
            if not forgotten:
                return None
            ledger = json.loads(bucket.client.get_object(Bucket=bucket.name, Key=LEDGER_KEY)["Body"].read())
        file = settings.erasure_key_file
        kept = sorted((settings.home / "forgotten").glob("*"))
        return cls(ledger, file.read_text() if file.exists() else "", {path.name: path.read_bytes() for path in kept})

    def carry(self, settings: Settings, bucket: Bucket) -> None:
        """Into the home of the settings, beside whom it knows itself.

        Raises:
            ErasureError: if that was written with another key.
        """
        if self.key and not settings.erasure_key_file.exists():
            settings.erasure_key_file.touch(mode=0o600)
            settings.erasure_key_file.write_text(self.key)
        there = forgotten_of(settings)(bucket).entries  # under the same key, or it is told
        known = {entry["hmac"] for entry in self.ledger["forgotten"]}
        entries = [*self.ledger["forgotten"], *(entry for entry in there if entry["hmac"] not in known)]
        body = json.dumps(self.ledger | {"forgotten": entries}, indent=1)
        bucket.client.put_object(Bucket=bucket.name, Key=LEDGER_KEY, Body=body.encode())
        for name, text in self.certificates.items():
            path = settings.home / "forgotten" / name
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.touch(mode=0o600)
                path.write_bytes(text)


def forget_again(settings: Settings, memory: Memory | None, say: Say) -> int:
    """Out of a home that was restored, whoever was forgotten since its backup was made; returns the exit code.

    Raises:
        ErasureError: if the ledger of the forgotten cannot be read with the key that is there.
    """
    bucket = local.landing_bucket(settings)
    if memory is not None:
        memory.carry(settings, bucket)
    forgotten = forgotten_of(settings)(bucket)
    if not forgotten or not settings.duckdb_path.exists():
        return DONE
    warehouse = open_warehouse(settings, announce=say)
    feeds = load_feeds([settings.dbt_project / "models" / "staging"])
    found = _taken_out(warehouse, bucket, feeds, forgotten.pseudonym_of, Scope.of_all)
    if not any(found.values()):
        return DONE
    say("the backup holds persons who were forgotten since: they are taken out, and everything is made anew")
    # Messages and logs of then may name them; what is served and shown is made anew.
    for folder in (settings.dagster_home, settings.dbt_home):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (settings.home / "report.html", settings.home / "serving.sqlite"):
        file.unlink(missing_ok=True)
    with local.dagster_instance(settings) as instance:
        code = runs.sync(settings, instance, rebuild=True, say=say)
    with warehouse.writing("forgetting") as session:
        if PREDICTED in session.tables():
            session.execute(f"delete from {PREDICTED}")  # made anew by c360 predict
    warehouse.purge()
    return code
