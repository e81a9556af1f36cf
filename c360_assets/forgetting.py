"""Forgetting: one person out of everything, step by step, and a certificate of where they were and that they are gone.

Belongs here: the order of the steps. Each may be broken off and done again: who has begun to be forgotten is in the
ledger before anything else happens, so that from then on no load brings them back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from c360_assets import erasure_proof as proof
from c360_assets import local, pending, persons, registers, runs
from c360_assets.backup import OBJECTS
from c360_assets.cli import DONE
from c360_assets.entities import declared
from c360_assets.erasure import ErasureError, Found, Scope, erase, exactly, forgotten_of
from c360_assets.erasure_proof import Marks
from c360_assets.feeds import Feed, load_feeds
from c360_assets.files import write_whole
from c360_assets.landing import Bucket
from c360_assets.redaction import ID, PERSON, PseudonymOf
from c360_assets.scrubbing import scrub
from c360_assets.settings import Settings
from c360_assets.store import Store
from c360_assets.streams import broker
from c360_assets.warehouse import NoWarehouse, Session, Warehouse, open_warehouse

Say = Callable[[str], None]
PREDICTED = "gold.customer_value"
_UNSAID = "about somebody who is forgotten"


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
    begun = _begun(notes) if again else None
    held, marks = _held(warehouse, customer_id, entity.personal, feeds, begun)
    say(f"found in {len(held)} tables")
    # What cannot be written without them is told before anything is done.
    named = _erased(warehouse, bucket, feeds, customer_id, "", rehearses=True)
    objects = sorted({*(begun["objects"] if begun else ()), *(key for each in named.values() for key in each.objects)})
    served = (begun["served"] if begun else {}) or _in_store(settings, marks)
    with warehouse.writing("forgetting"):
        forgotten = forgotten_of(settings)(bucket).add(bucket, settings.erasure_key_file, customer_id, reason)
    pseudonym = forgotten.pseudonym_of(customer_id)
    assert pseudonym is not None
    # By what to know them, until nothing of them is left: what it is told from goes first.
    notes = notes.with_name(f"{pseudonym}.begun")
    told = {"held": dict(held), "values": marks.values, "objects": objects, "served": served}
    write_whole(notes, json.dumps(told))
    found = _erased(warehouse, bucket, feeds, customer_id, pseudonym)
    count = len({key for each in found.values() for key in each.objects})
    say(f"{count} objects written anew; everything is made anew of what is left")
    code = runs.sync(settings, instance, rebuild=True, say=say)
    with warehouse.writing("forgetting") as session:
        _forget_predictions(session, customer_id)
        _forget_reasons(session, marks)
    kept = [text for text in (warehouse.purge(),) if text]
    Store(settings.serving_url).purge()
    scrubbed = scrub((settings.dagster_home, settings.dbt_home), marks, pseudonym)
    left = _left(settings, warehouse, bucket, feeds, marks, notes)
    if code != DONE:
        left["run"] = 1
        say("not everything was made anew: c360 sync --rebuild says why; then forget again")
    certificate = {
        "pseudonym": pseudonym,
        "reason": reason,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "found_in_tables": held,
        # A name may have the id too.
        "found_in_objects": [marks.without(key.encode(), pseudonym).decode() for key in objects],
        "found_in_store": served,
        "found_in_logs": scrubbed,
        "objects_written_anew": count,
        "feeds": {
            name: {n: v for n, v in asdict(each).items() if n != "objects"} | {"objects": len(each.objects)}
            for name, each in found.items() if each
        },
        "searched_for": f"the id and {len(marks.values)} values that nobody else has",
        "searched": ["every text column of every table", "every object of every feed", "every file of the home"],
        "left": {marks.without(where.encode(), pseudonym).decode(): times for where, times in left.items()},
        "kept_by_others": [*kept, *_out_of_reach(settings)],
        "clean": not left,
    }  # fmt: skip
    notes.with_suffix(".json").write_text(json.dumps(certificate, indent=1) + "\n")
    if not left:
        notes.unlink()
    return certificate


def _begun(notes: Path) -> dict[str, Any]:
    """What a forgetting that was broken off has noted."""
    nothing: dict[str, Any] = {"held": {}, "values": [], "objects": [], "served": {}}
    return nothing | (json.loads(notes.read_text()) if notes.exists() else {})


def _held(
    warehouse: Warehouse,
    customer_id: str,
    personal: tuple[str, ...],
    feeds: Mapping[str, Feed],
    begun: Mapping[str, Any] | None,
) -> tuple[Mapping[str, int], Marks]:
    """{table: rows that name them}, and their marks; `begun`: of a forgetting of theirs that has begun before."""
    try:
        with warehouse.reading() as session:
            held = {table: len(rows) for table, rows in persons.held(session, customer_id, feeds).items()}
            marks = proof.marks_of(session, customer_id, personal)
    except (persons.NobodyFound, NoWarehouse):
        if begun is None:
            raise
        held, marks = {}, Marks(customer_id)
    if begun is not None:
        marks = Marks(customer_id, tuple(dict.fromkeys([*begun["values"], *marks.values])))
        held = begun["held"] or held
    return held, marks


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
    return taken_out(warehouse, bucket, feeds, people, scope, rehearses=rehearses)


def taken_out(
    warehouse: Warehouse,
    bucket: Bucket,
    feeds: Mapping[str, Feed],
    people: PseudonymOf,
    scope: Callable[[str], Scope],
    *,
    rehearses: bool = False,
) -> dict[str, Found]:
    """Out of S3 and staging, whoever of the people the rows of the scope name; a transaction for each feed."""
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


def _forget_reasons(session: Session, marks: Marks) -> None:
    """What people wrote of them when they decided about a refused record."""
    for (reason,) in session.rows("select distinct reason from staging.quarantine_decisions"):
        if reason and marks.in_text(reason):
            session.execute("update staging.quarantine_decisions set reason = ? where reason = ?", [_UNSAID, reason])


def _left(
    settings: Settings, warehouse: Warehouse, bucket: Bucket, feeds: Mapping[str, Feed], marks: Marks, notes: Path
) -> dict[str, int]:
    """{where something of the person still is: how often}"""
    with warehouse.reading() as session:
        left = proof.in_tables(session, marks, feeds)
    left |= {f"s3://{bucket.name}/{key}": n for key, n in proof.in_objects(bucket, feeds, marks).items()}
    left |= {f"serving store, {table}": n for table, n in _in_store(settings, marks).items()}
    return left | {f"file {name}": n for name, n in proof.in_files(settings.home, marks, [notes]).items()}


def _in_store(settings: Settings, marks: Marks) -> dict[str, int]:
    """{table of the serving store: rows that tell of them}"""
    store = Store(settings.serving_url)
    try:
        return store.found(marks.spellings, marks.in_text, {ID: marks.customer_id})
    finally:
        store.close()


def _out_of_reach(settings: Settings) -> list[str]:
    """Where records stand that are neither written anew nor read by the proof, and what to do about each."""
    found = []
    if (settings.home / OBJECTS / broker.BUCKET).is_dir():
        found.append(
            f"what the embedded broker keeps of its topics, {OBJECTS / broker.BUCKET} in the home: when all of it has "
            "been landed, stop c360 up and delete the folder"
        )
    kinesis = settings.home / "s3" / "state" / "kinesis.json"
    if kinesis.is_file() and b'"records"' in kinesis.read_bytes():
        found.append("records of the embedded Kinesis, s3/state/kinesis.json in the home: delete it while nothing runs")
    if "storage" in (yaml.safe_load(settings.dagster_config.read_text()) or {}):
        found.append(
            f"Dagster's storage, which {settings.dagster_config.name} has outside the home: its runs and events"
        )
    return found
