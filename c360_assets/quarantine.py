"""Quarantine: what was refused and why; trying again, and letting go.

Belongs here: reading the register, and the decisions of people about its rows. A decision is a row in staging with a
batch of its own, so that it flows down the layers like anything that arrives; nothing is changed in place.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from c360_assets import registers, staging
from c360_assets.erasure import Forgotten
from c360_assets.expectations import ACCEPTED
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, Listed
from c360_assets.spool import GONE, MOVED, spooled_object
from c360_assets.warehouse import Session, Warehouse, insert

# feed, key, etag, row
Record = tuple[str, str, str, int]
# Of an object that is landed corrected: of its one record the ordinal, and the line of the receipt, that it had in the
# object that it first came in. The dbt macros read them (fixed_number).
FIXED_ROW, FIXED_LINE = "_fixed_row", "_fixed_line"

# Is `{0}` the key, or does it end with it as its last part? No pattern: `_` in a key stands for itself.
IS_KEY = "{0} = ? or right({0}, ?) = ?"


def key_values(key: str) -> list[object]:
    """The parameters of `IS_KEY`."""
    return [key, len(key) + 1, f"/{key}"]


class QuarantineError(ValueError):
    """Nothing fits what was asked for; the text says what there is."""


@dataclass(frozen=True)
class Entry:
    """One open refusal. `row` 0 stands for an object that cannot be read as a whole."""

    feed: str
    key: str
    etag: str
    row: int
    line: int | None
    stage: str
    raw: str
    reasons: tuple[str, ...]
    refused_at: datetime
    batch: str


@dataclass(frozen=True)
class Choice:
    """Which refusals are meant; an empty part means any."""

    feed: str | None = None
    key: str | None = None
    row: int | None = None
    reason: str | None = None


def entries(session: Session, choice: Choice, limit: int | None = None) -> list[Entry]:
    """Open refusals, newest batch first, in the order of their objects; none where no run has come that far."""
    if "clean.quarantine" not in session.tables():
        return []
    conditions: list[str] = ["true"]
    values: list[object] = []
    for column, value in (("feed", choice.feed), ("_row", choice.row)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if choice.key is not None:
        conditions.append(f"({IS_KEY.format('_key')})")
        values += key_values(choice.key)
    if choice.reason is not None:
        # A code stands for all its columns: bad_date for bad_date:signup_date.
        conditions.append("(reasons like ? or reasons like ?)")
        values += [f'%"{choice.reason}"%', f'%"{choice.reason}:%']
    rows = session.rows(
        f"""
        select feed, _key, _etag, _row, line, stage, raw, reasons, refused_at, batch
        from clean.quarantine
        where {" and ".join(conditions)}
        order by batch desc, feed, _key, _row
        {f"limit {int(limit)}" if limit is not None else ""}
        """,
        values,
    )
    return [
        Entry(feed, key, etag, row, line, stage, raw or "", tuple(json.loads(reasons)), refused_at, batch)
        for feed, key, etag, row, line, stage, raw, reasons, refused_at, batch in rows
    ]


def decide(warehouse: Warehouse, chosen: Sequence[Entry], decision: str, reason: str) -> str:
    """Writes the decision about each refusal and returns its batch; the next run of clean acts on it."""
    with warehouse.writing(f"quarantine {decision}") as session, session.transaction():
        batch, now = registers.next_batch(session)
        records = {(e.feed, e.key, e.etag, e.row) for e in chosen}
        taken = _lines_taken(session, {(e.feed, e.key, e.etag, e.row) for e in chosen if e.line is not None})
        _note(session, records, decision, reason, now, batch, taken)
    return batch


def _lines_taken(session: Session, receipts: Collection[Record]) -> dict[Record, str]:
    """Of each receipt the lines that were taken when they came, `1,2`: what is decided of the others does not make them
    known."""
    taken = {}
    for receipt in receipts:
        lines = session.rows(
            "select distinct line from clean.pos_line_rows "
            "where _feed = ? and _key = ? and _etag = ? and _row = ? and reasons = '[]' order by line",
            list(receipt),
        )
        taken[receipt] = ",".join(str(line) for (line,) in lines)
    return taken


def release_objects(warehouse: Warehouse, feed: Feed, key: str) -> list[str]:
    """Takes the standing objects of this key, or with this last part of it, as they are, whatever is expected of them.

    Returns their keys; one that was released before is not among them.
    """
    with warehouse.writing("quarantine release") as session, session.transaction():
        batch, now = registers.next_batch(session)
        objects = session.rows(
            f"""
            select distinct l.key, l.etag
            from staging.object_ledger as l
            left join staging.quarantine_decisions as d
                on l.feed = d.feed and l.key = d._key and l.etag = d._etag and d._row = 0 and d.decision = ?
            where l.feed = ? and ({IS_KEY.format("l.key")}) and l.status in ('loaded', 'empty') and d.feed is null
            """,
            [ACCEPTED, feed.name, *key_values(key)],
        )
        _note(session, [(feed.name, found, etag, 0) for found, etag in objects], ACCEPTED, "", now, batch)
    return sorted(found for found, _ in objects)


def fix(
    warehouse: Warehouse, bucket: Bucket, feeds: Mapping[str, Feed], chosen: Sequence[Entry], values: Mapping[str, str]
) -> list[str]:
    """Lands each record with these values in it as an object of its own, and dismisses the refusal; returns the keys.

    The object is named after the one that the record came in, so that it says the same instant, and carries its file
    time: the record stands at its own event time. Beside its columns it says which ordinal, or which line of its
    receipt, the record was: it stands where it stood. What is fixed is a file like any other, and survives a rebuild.

    Raises:
        QuarantineError: for what cannot be fixed so, or a column that the feed does not have; nothing is landed then.
    """
    for entry in chosen:
        _check_fixable(entry, feeds[entry.feed], values)
    landed = []
    for entry in chosen:
        feed = feeds[entry.feed]
        with warehouse.reading() as session:
            ((of_object, seen),) = session.rows(
                "select max(event_time), max(last_modified) from staging.object_ledger "
                "where feed = ? and key = ? and etag = ?",
                [entry.feed, entry.key, entry.etag],
            )
            place = _place(session, entry, feed, of_object)
        record = {**json.loads(entry.raw), **values, **place}
        # A row that has to state its own time goes on to have to.
        column = feed.event_time.column
        needed = feed.required if of_object or column is None else feed.required | {column}
        shown = [c for c in (*feed.columns, *place) if record.get(c) is not None or c in needed]
        text = io.StringIO()
        if "csv" in feed.formats:
            table = csv.writer(text, delimiter=feed.delimiter, lineterminator="\n")
            table.writerows([shown, [record.get(c) or "" for c in shown]])
        else:
            text.write(json.dumps({c: record.get(c) for c in shown}, ensure_ascii=False) + "\n")
        stem = entry.key.rsplit("/", 1)[-1].split(".")[0]
        kind = "csv" if "csv" in feed.formats else "json"
        name = f"{stem}.fixed-{entry.etag[:6]}-{entry.row}.{kind}"
        key = bucket.put_text(feed, name, text.getvalue(), of_object or seen)
        # Landed first: a crash between the two leaves both, and the next attempt lands the same bytes.
        decide(warehouse, [entry], "dismiss", f"fixed by {key}")
        landed.append(key)
    return landed


def _check_fixable(entry: Entry, feed: Feed, values: Mapping[str, str]) -> None:
    which = f"record {entry.row} of {entry.key}"
    if entry.stage != "cleaning":
        raise QuarantineError(
            f"{which} was refused in {entry.stage}, and no columns of it are known: land it corrected"
        )
    if feed.payload or entry.line is not None:
        raise QuarantineError(f"{which} is a document, and not of columns: land it corrected")
    if feed.kind == "snapshot":
        raise QuarantineError(
            f"{which} is of a snapshot, which says what is not there too: land the whole file corrected"
        )
    if feed.kind == "partial":
        # The register shows a column that was emptied and one that was not sent alike.
        raise QuarantineError(
            f"{which} is a part of a row, and which columns it leaves alone is not known: land it corrected"
        )
    unknown = sorted(values.keys() - set(feed.columns))
    if unknown:
        raise QuarantineError(f"feed {feed.name} has no column '{unknown[0]}'; there are: {', '.join(feed.columns)}")
    if feed.kind == "lines":
        record = json.loads(entry.raw)
        of_receipt = [c for target in ("store_id", "transaction_id") for c in feed.map.get(target, ())]
        moved = [c for c in of_receipt if c in values and values[c] != record.get(c)]
        if moved:
            raise QuarantineError(
                f"{which} is a line of another receipt with {moved[0]} '{values[moved[0]]}', and which of its lines is "
                "not known: land that receipt as a whole, corrected"
            )


def _place(session: Session, entry: Entry, feed: Feed, of_object: datetime | None) -> dict[str, str]:
    """What numbered the record in the object that it first came in, where it is known by it or stands in its order."""
    if feed.kind == "lines":
        ((line,),) = session.rows(
            f"select line from clean.{feed.entity}_rows where _feed = ? and _key = ? and _etag = ? and _row = ? "
            "order by _loaded_batch desc limit 1",
            [entry.feed, entry.key, entry.etag, entry.row],
        )
        return {FIXED_LINE: str(line)}
    if of_object is None or feed.kind == "clicks":
        return {}
    # Of a record that was fixed before, and wrongly, the object says what it was at first.
    ((extra,),) = session.rows(
        f"select _extra from staging.{feed.name} where _key = ? and _etag = ? and _row = ? "
        "order by _batch desc limit 1",
        [entry.key, entry.etag, entry.row],
    )
    return {FIXED_ROW: json.loads(extra or "{}").get(FIXED_ROW) or str(entry.row)}


def _note(
    session: Session,
    records: Collection[Record],
    decision: str,
    reason: str,
    now: datetime,
    batch: str,
    lines_taken: Mapping[Record, str] | None = None,
) -> None:
    rows = [
        (*record, decision, reason, now, batch, (lines_taken or {}).get(record) or None) for record in sorted(records)
    ]
    insert(session, "staging.quarantine_decisions", registers.DECISIONS, rows)


@dataclass(frozen=True)
class Replayed:
    """What a replay tried: rows that cleaning will look at again, records read after all, and those still refused."""

    cleaning: int
    read: int
    still_refused: list[tuple[Entry, str]]


def replay(
    warehouse: Warehouse,
    bucket: Bucket,
    feeds: Mapping[str, Feed],
    chosen: Sequence[Entry],
    spool: Path,
    forgotten: Callable[[], Forgotten] | None = None,
) -> Replayed:
    """Tries the refusals again: rows by cleaning in the next run, records by reading their object anew."""
    in_cleaning = [e for e in chosen if e.stage == "cleaning"]
    if in_cleaning:
        decide(warehouse, in_cleaning, "replay", "")
    objects: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in chosen:
        if entry.stage == "reading":
            objects.setdefault((entry.feed, entry.key, entry.etag), []).append(entry)
    read, still = 0, []
    for (feed, key, etag), refused in objects.items():
        got, why = _read_again(warehouse, bucket, feeds[feed], key, etag, {e.row for e in refused}, spool, forgotten)
        read += got
        still += [(e, why[e.row]) for e in refused if e.row in why]
    return Replayed(len(in_cleaning), read, still)


def _read_again(
    warehouse: Warehouse,
    bucket: Bucket,
    feed: Feed,
    key: str,
    etag: str,
    rows: set[int],
    spool: Path,
    forgotten: Callable[[], Forgotten] | None,
) -> tuple[int, dict[int, str]]:
    """Reads the object version again; returns how many records came, and {row: why} of those asked for that did not."""
    whole = 0 in rows
    with warehouse.writing("replaying") as session:
        ((size, last_modified, event_time),) = session.rows(
            "select max(size), max(last_modified), max(event_time) from staging.object_ledger "
            "where feed = ? and key = ? and etag = ?",
            [feed.name, key, etag],
        )
        batch, now = registers.next_batch(session)
    listed = Listed(last_modified, key, etag, size)
    with spooled_object(feed, listed, bucket, spool, batch, now, None if whole else rows) as (outcome, files, names):
        if outcome.status in (GONE, MOVED):
            return 0, dict.fromkeys(rows, f"S3 has no such version of {key} any more")
        why = {r.row: ", ".join(r.reasons) for r in outcome.refused}
        if outcome.status == "unreadable":
            return 0, dict.fromkeys(rows, why[0])
        came = rows if whole else rows - why.keys()
        if not came:
            return 0, {row: why[row] for row in rows}
        # The instant of the rows is the one under which the object was first seen.
        stands = replace(outcome, event_time=outcome.event_time and (event_time or outcome.event_time))
        if not whole:
            stands = replace(stands, refused=())
        with warehouse.writing("replaying") as session:
            source = session.put(files) if files else None
            with session.transaction():
                if not registers.is_newest(session, batch):
                    raise QuarantineError("something was loaded in the meantime; nothing was changed: replay again")
                session.execute(
                    "update staging.refused_rows set resolved_at = ? where feed = ? and _key = ? and _etag = ? "
                    f"and resolved_at is null and _superseded_at is null and _row in ({', '.join('?' * len(came))})",
                    [now, feed.name, key, etag, *sorted(came)],
                )
                # Before its own rows are there: they stand.
                if whole:
                    registers.supersede(session, feed, [stands], now)
                if source is not None:
                    session.load(f"staging.{feed.name}", names, source)
                if not whole:
                    _note(session, [(feed.name, key, etag, row) for row in came], "read", "", now, batch)
                registers.write_registers(session, feed, [stands], batch, now)
                if forgotten:
                    staging.keep_out(feed, bucket, forgotten, batch, lambda text: None, session)
    return outcome.rows, {} if whole else {row: why[row] for row in rows if row in why}
