"""Registers: what is written down of every object and record that came, in the transaction that brings its rows.

Belongs here: the ledger of objects, the refused records, the decisions on them; the names of batches, which order all
that a load or a decision does.
"""

import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import dagster as dg

from c360_assets import instants
from c360_assets.feeds import Feed
from c360_assets.spool import LINEAGE, Outcome
from c360_assets.warehouse import INTEGER, TEXT, TIMESTAMP, Session, insert

LEDGER = {
    "feed": TEXT,
    "key": TEXT,
    "etag": TEXT,
    "size": INTEGER,
    "last_modified": TIMESTAMP,
    "event_time": TIMESTAMP,
    "status": TEXT,
    "batch": TEXT,
    "loaded_at": TIMESTAMP,
}
REFUSED = {
    "feed": TEXT,
    "_key": TEXT,
    "_etag": TEXT,
    "_row": INTEGER,
    "raw": TEXT,
    "reasons": TEXT,
    "refused_at": TIMESTAMP,
    "_batch": TEXT,
    "_superseded_at": TIMESTAMP,
    "resolved_at": TIMESTAMP,
}
DECISIONS = {
    "feed": TEXT,
    "_key": TEXT,
    "_etag": TEXT,
    "_row": INTEGER,
    "decision": TEXT,
    "reason": TEXT,
    "decided_at": TIMESTAMP,
    "batch": TEXT,
    "lines_taken": TEXT,
}
REGISTERS = {
    "object_ledger": "One row per object version seen, written in the transaction that loads its rows.",
    "refused_rows": "One row per record that could not be read, with its text and every reason.",
    "quarantine_decisions": "One row per decision of a person about a refused record.",
}


def register_specs(loads: Sequence[dg.AssetKey], engine: str) -> list[dg.AssetSpec]:
    """The registers as assets that every load writes."""
    return [
        dg.AssetSpec(["staging", name], deps=loads, kinds={engine}, description=text)
        for name, text in REGISTERS.items()
    ]


_BATCH = "%Y%m%dT%H%M%S.%f"


def prepare_tables(session: Session, feeds: Sequence[Feed]) -> None:
    """Every table that Python writes, made or widened to what is declared."""
    session.ensure("staging.object_ledger", LEDGER)
    session.ensure("staging.refused_rows", REFUSED)
    session.ensure("staging.quarantine_decisions", DECISIONS)
    for feed in feeds:
        # What was received is on S3; what was seen and decided is nowhere else. A column that is declared only now may
        # have come all along.
        columns = dict.fromkeys(feed.columns, TEXT) | LINEAGE
        session.ensure(f"staging.{feed.name}", columns, transient=True, document="_extra")


def next_batch(session: Session) -> tuple[str, datetime]:
    """Name and instant of a new batch; the name sorts after every other, even where the clock was set back."""
    (last,) = session.rows(
        """
        select greatest(
            coalesce((select max(batch) from staging.object_ledger), ''),
            coalesce((select max(batch) from staging.quarantine_decisions), '')
        )
        """
    )[0]
    instant = instants.now()
    if last and last[:22] >= instant.strftime(_BATCH):
        instant = datetime.strptime(last[:22], _BATCH) + timedelta(microseconds=1)
    return f"{instant.strftime(_BATCH)}-{secrets.token_hex(2)}", instant


def last_instant(session: Session) -> datetime | None:
    """UTC without zone: nothing that the warehouse has came after it, be it an object or a decision."""
    instant: datetime | None
    ((instant,),) = session.rows(
        """
        select max(instant)
        from (
            select loaded_at as instant from staging.object_ledger
            union all
            select decided_at as instant from staging.quarantine_decisions
        ) as instants
        """
    )
    return instant


def is_newest(session: Session, batch: str) -> bool:
    """Has no other batch come since this one was named? Asked inside the transaction that writes it."""
    return bool(
        session.rows(
            """
            select 1
            where not exists (select 1 from staging.object_ledger where batch >= ?)
                and not exists (select 1 from staging.quarantine_decisions where batch >= ?)
            """,
            [batch, batch],
        )
    )


def write_registers(session: Session, feed: Feed, outcomes: Sequence[Outcome], batch: str, now: datetime) -> None:
    """The refused records and the ledger rows of the outcomes."""
    refused = [
        (feed.name, o.listed.key, o.listed.etag, r.row, r.raw, json.dumps(list(r.reasons), separators=(",", ":")),
         now, batch, None, None)
        for o in outcomes for r in o.refused
    ]  # fmt: skip
    ledger = [
        (
            feed.name,
            o.listed.key,
            o.listed.etag,
            o.listed.size,
            o.listed.last_modified,
            o.event_time,
            o.status,
            batch,
            now,
        )
        for o in outcomes
    ]
    insert(session, "staging.refused_rows", REFUSED, refused)
    insert(session, "staging.object_ledger", LEDGER, ledger)


def supersede(session: Session, feed: Feed, outcomes: Sequence[Outcome], now: datetime) -> None:
    """Former versions of the keys that come anew, where the newest counts. One that cannot be read replaces nothing."""
    keys = [o.listed.key for o in outcomes if o.status in ("loaded", "empty") and feed.replaces(o.listed.key)]
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        places = ", ".join("?" * len(some))
        former = session.rows(
            "select distinct key from staging.object_ledger where feed = ? "
            f"and status in ('loaded', 'empty', 'unreadable') and key in ({places})",
            [feed.name, *some],
        )
        if not former:
            continue
        again = [key for (key,) in former]
        places = ", ".join("?" * len(again))
        session.execute(
            f"update staging.object_ledger set status = 'superseded' where feed = ? and status in ('loaded', 'empty') "
            f"and key in ({places})",
            [feed.name, *again],
        )
        session.execute(
            f"update staging.{feed.name} set _superseded_at = ? where _superseded_at is null and _key in ({places})",
            [now, *again],
        )
        session.execute(
            "update staging.refused_rows set _superseded_at = ? where feed = ? "
            f"and _superseded_at is null and _key in ({places})",
            [now, feed.name, *again],
        )
