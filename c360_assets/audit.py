"""Audit: is a history that somebody already has right, by itself and against the log that it was made of?

Belongs here: what is asked, what is found, how it is shown. What a column means is in audit_shapes, values in
audit_columns, the search in audit_sql, causes in audit_causes. Nothing is written: a session that reads is enough.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from c360_assets import output
from c360_assets.audit_causes import CODES, NOTES, Fault, Found
from c360_assets.audit_columns import AuditError, HistoryTable, LogTable, rows_of
from c360_assets.audit_shapes import understood, understood_log
from c360_assets.audit_sql import statement
from c360_assets.warehouse import Session

__all__ = ["Audit", "AuditError", "Fault", "HistoryTable", "LogTable", "audit", "run", "understood", "understood_log"]

LIMIT = 20


@dataclass(frozen=True)
class Audit:
    """`counts` has every code found, exact; `faults` and `notes` at most `limit` of each. `events`: rows of the log."""

    history: HistoryTable
    log: LogTable | None
    keys: int
    versions: int
    events: int | None
    faults: list[Fault]
    notes: list[Fault]
    counts: dict[str, int]
    remarks: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        return not self.counts.keys() - set(NOTES)


def audit(session: Session, history: HistoryTable, log: LogTable | None = None, *, limit: int = LIMIT) -> Audit:
    """The faults of the history, each at its root; with a log also what differs from what the log implies.

    Raises:
        AuditError: if a column is of no use: text that is no time, a flag that is neither yes nor no.
    """
    if limit < 1:
        raise AuditError(f"--limit {limit} would show nothing; it is 1 or more")
    rows = rows_of(session, history, log)
    keys, versions, _ = _counted(session, rows.history, rows.keys, "s")
    events, remarks = None, rows.remarks
    if rows.log:
        _, events, useless = _counted(session, rows.log, rows.keys, "t")
        remarks += (f"{useless} rows of the log have no key or no time and are left out",) if useless else ()
    faults: list[Fault] = []
    counts: dict[str, int] = {}
    for row in session.rows(statement(rows, limit)):
        found = Found.of(row, rows)
        counts[found.code] = int(row[-1])
        faults.append(found.fault())
    order = list(CODES)
    faults.sort(key=lambda fault: order.index(fault.code))
    return Audit(
        history, log, keys, versions, events,
        [f for f in faults if f.code not in NOTES], [f for f in faults if f.code in NOTES],
        {code: counts[code] for code in order if code in counts}, remarks,
    )  # fmt: skip


def run(session: Session, options: Mapping[str, Any]) -> Audit:
    """What `c360 audit` was told, by the names of its options; lists may be given as text with commas."""

    def listed(name: str) -> list[str]:
        value = options.get(name) or []
        return [v.strip() for v in (value.split(",") if isinstance(value, str) else value) if v.strip()]

    history = understood(
        session, options["history"], key=listed("key"), attributes=listed("attributes"), ignore=listed("ignore"),
        **{o: options.get(o) for o in ("valid_from", "valid_to", "open_end", "is_current", "deleted", "end_inclusive")},
    )  # fmt: skip
    log = None
    if options.get("log"):
        log = understood_log(
            session, options["log"], history, key=listed("log_key"), attributes=listed("attributes"),
            delete_codes=listed("delete_codes"),
            **{o: options.get(o) for o in ("event_time", "op", "position", "arrived")},
        )  # fmt: skip
    limit = options.get("limit")
    return audit(session, history, log, limit=LIMIT if limit is None else int(limit))


def write(found: Audit, form: str, out: TextIO | None = None) -> None:
    """As `table` (what was found, then the faults), `csv` (the faults) or `json` (one object)."""
    out = out or sys.stdout
    names = ["code", "key", "since", "until", "cause"]
    each: list[Sequence[Any]] = [
        (f.code, output.text_of(list(f.key)) if len(f.key) > 1 else f.key[0], f.since, f.until, f.cause)
        for f in (*found.faults, *found.notes)
    ]
    if form == "csv":
        output.write(names, each, "csv", out)
        return
    checked = {"keys": found.keys, "versions": found.versions, "events": found.events}
    if form == "json":
        listed = [[{"code": f.code, "key": f.key, **dict(zip(names[2:], (f.since, f.until, f.cause), strict=True))}
                   for f in some] for some in (found.faults, found.notes)]  # fmt: skip
        whole = {"history": found.history.table, "log": found.log.table if found.log else None, "checked": checked,
                 "is_right": found.is_right, "counts": found.counts, "faults": listed[0], "notes": listed[1],
                 "remarks": found.remarks}  # fmt: skip
        out.write(json.dumps(whole, default=output.text_of, ensure_ascii=False, indent=1) + "\n")
        return
    for remark in found.remarks:
        out.write(f"{remark}\n")
    against = f", against {found.events} rows of {found.log.table}" if found.log else ""
    verdict = "nothing is wrong" if found.is_right else "what is wrong:"
    out.write(f"{found.versions} versions of {found.keys} keys in {found.history.table}{against}: {verdict}\n")
    if found.counts:
        counted = [(code, n, ("note: " if code in NOTES else "") + CODES[code]) for code, n in found.counts.items()]
        output.write(["code", "count", "what"], counted, "table", out)
        out.write("\n")
        output.write(names, each, "table", out)


def _counted(session: Session, rows: str, keys: int, instant: str) -> tuple[int, int, int]:
    """Keys, rows, and rows without key or instant."""
    named = [f"k{n}" for n in range(1, keys + 1)]
    useless = " or ".join(f"{column} is null" for column in (*named, instant))
    ((all_rows, wrong, distinct),) = session.rows(
        f"with counted as ({rows}) select count(*), coalesce(sum(case when {useless} then 1 else 0 end), 0), "
        f"(select count(*) from (select distinct {', '.join(named)} from counted) as distinct_keys) from counted"
    )
    return int(distinct), int(all_rows), int(wrong)
