"""Staging: rows exactly as received, and the ledger row of their object, in one transaction.

Belongs here: the tables that Python writes, the load of a batch, one asset factory. Objects are read and spooled as
Parquet before the warehouse is opened, so a crash at any point leaves either all of a batch or nothing of it, and a
second run gives the same tables.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg

from c360_assets import landing
from c360_assets.erasure import Forgotten, Scope, erase
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, Listed
from c360_assets.processes import sign_run
from c360_assets.snowflake.arrivals import Arrived, Fetching, Plain, nothing_arrived
from c360_assets.spool import GONE, LINEAGE, MOVED, Outcome, Spool, read_all, spool_folder, stated_file_time
from c360_assets.warehouse import INTEGER, TEXT, TIMESTAMP, Session, Warehouse, insert, may_pass

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


@dataclass
class Loaded:
    """What a load did, for metadata and messages."""

    batches: int = 0
    objects: int = 0
    rows: int = 0
    refused: int = 0
    awaited: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    drift: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)

    def add(self, other: "Loaded") -> None:
        self.batches += other.batches
        self.objects += other.objects
        self.rows += other.rows
        self.refused += other.refused
        self.drift |= other.drift
        self.missing |= other.missing
        for status, count in other.by_status.items():
            self.by_status[status] = self.by_status.get(status, 0) + count


def prepare_tables(session: Session, feeds: Sequence[Feed]) -> None:
    """Every table that Python writes, made or widened to what is declared."""
    session.ensure("staging.object_ledger", LEDGER)
    session.ensure("staging.refused_rows", REFUSED)
    session.ensure("staging.quarantine_decisions", DECISIONS)
    for feed in feeds:
        # What was received is on S3; what was seen and decided is nowhere else.
        session.ensure(f"staging.{feed.name}", dict.fromkeys(feed.columns, TEXT) | LINEAGE, transient=True)


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
    instant = datetime.now(UTC).replace(tzinfo=None)
    if last and last[:22] >= instant.strftime(_BATCH):
        instant = datetime.strptime(last[:22], _BATCH) + timedelta(microseconds=1)
    return f"{instant.strftime(_BATCH)}-{secrets.token_hex(2)}", instant


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


def load_new(
    feed: Feed,
    bucket: Bucket,
    warehouse: Warehouse,
    spool: Path,
    *,
    objects: int,
    size: int,
    batches: int | None = None,
    fetching: Fetching | None = None,
    forgotten: Callable[[], Forgotten] | None = None,
    told: Sequence[Listed] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Loaded:
    """Loads what is new of the feed, batch by batch, each in a transaction of its own; at most `batches` of them.

    What lands, or changes under our hands, after the one listing is left to the next run: an object that is rewritten
    all the time does not hold this one. With `fetching` the warehouse brings what it can, and we read the rest. Who is
    `forgotten`, when a batch is written, does not come back. Of objects that are `told` S3 is not asked for others.
    """
    total = Loaded()
    waiting = {o.key: o for o in (bucket.listed(feed) if told is None else told)}
    while batches is None or total.batches < batches:
        with warehouse.writing(f"preparing {feed.name}") as session:
            if total.batches == 0 and told is None:
                prepare_tables(session, [feed])
            known = landing.known_etags(session, feed, list(waiting) if told is not None else None)
            batch, now = next_batch(session)
        waiting = {key: o for key, o in waiting.items() if known.get(key) != o.etag}
        plan = landing.plan_batch(waiting.values(), known, objects, size)
        if not plan:
            break
        with spool_folder(spool) as folder, ExitStack() as open_while_reading:
            spooled = Spool(folder, feed, batch, now)
            open_to_load = partial(open_while_reading.enter_context, warehouse.writing(f"loading {feed.name}"))
            loading = open_to_load() if fetching else None
            arrived = fetching.fetch(loading, feed, plan, now) if fetching and loading else nothing_arrived(feed, plan)
            outcomes = list(read_all(feed, arrived.left, bucket, spooled))
            outcomes += [_outcome(feed, plain, bucket) for plain in arrived.plain]
            for listed in [*arrived.awaited, *(o.listed for o in outcomes if o.status in (MOVED, GONE))]:
                del waiting[listed.key]
            total.awaited += len(arrived.awaited)
            outcomes = [o for o in outcomes if o.status != MOVED]
            guard = partial(keep_out, feed, bucket, forgotten, batch, say) if forgotten else None
            if outcomes and _write(feed, outcomes, spooled, loading or open_to_load(), arrived, batch, now, guard):
                loaded = _summary(outcomes, spooled)
                total.add(loaded)
                say(f"{feed.name}: {loaded.objects} objects, {loaded.rows} rows, {loaded.refused} refused")
    if total.awaited:
        say(f"{feed.name}: {total.awaited} objects are awaited from the pipe")
    return total


def _outcome(feed: Feed, plain: Plain, bucket: Bucket) -> Outcome:
    """Of an object that arrived; like one that is fetched, it may have become another meanwhile."""
    file_time: datetime | None = plain.listed.last_modified
    if feed.event_time.file_time and feed.event_time.column not in plain.present:
        file_time = stated_file_time(bucket, plain.listed)
    if file_time is None:
        return Outcome(plain.listed, MOVED)
    event_time = feed.event_time.of_object(plain.listed.key, plain.present, file_time)
    return Outcome(plain.listed, "loaded", event_time, plain.rows)


def _write(
    feed: Feed,
    outcomes: Sequence[Outcome],
    spooled: Spool,
    session: Session,
    arrived: Arrived,
    batch: str,
    now: datetime,
    guard: Callable[[Session], None] | None = None,
) -> bool:
    """All of the batch in one transaction; False, and nothing written, if another process loaded in the meantime."""
    files = spooled.close()
    source = session.put(files) if files else None
    with session.transaction():
        if not is_newest(session, batch):
            return False
        supersede(session, feed, outcomes, now)
        if source is not None:
            session.load(f"staging.{feed.name}", spooled.names, source)
        arrived.take(session, batch, now, {o.listed.key for o in outcomes})
        write_registers(session, feed, outcomes, batch, now)
        if guard is not None:
            guard(session)
        arrived.forget(session)
    return True


def keep_out(
    feed: Feed,
    bucket: Bucket,
    forgotten: Callable[[], Forgotten],
    batch: str,
    say: Callable[[str], None],
    session: Session,
) -> None:
    """Who is forgotten goes out of what the batch brought, and out of its objects, before anybody sees it."""
    # Asked within the transaction: whoever begins to be forgotten after it is looked for in what it has written.
    told = forgotten()
    if not told:
        return
    # Under a batch of its own: rows find the object that they came with by its key, etag and batch.
    later, now = next_batch(session)
    found = erase(session, bucket, feed, told.pseudonym_of, Scope.of_batch(batch), later, now)
    if found:
        say(
            f"{feed.name}: {found.dropped + found.refused} records of persons who are forgotten were taken out, "
            f"{found.changed} name a pseudonym; {len(found.objects)} objects were written anew"
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


def _summary(outcomes: Sequence[Outcome], spooled: Spool) -> Loaded:
    loaded = Loaded(
        batches=1,
        objects=len(outcomes),
        rows=sum(o.rows for o in outcomes),
        refused=sum(len(o.refused) for o in outcomes),
        drift=spooled.unknown,
        missing=spooled.missing,
    )
    for outcome in outcomes:
        loaded.by_status[outcome.status] = loaded.by_status.get(outcome.status, 0) + 1
    return loaded


class StagingConfig(dg.Config):
    """`max_batches`: how many batches one run loads; 0 means all that is new."""

    max_batches: int = 0


def staging_asset(
    feed: Feed,
    bucket: Callable[[], Bucket],
    warehouse: Warehouse,
    spool: Path,
    *,
    objects: int,
    size: int,
    fetching: Fetching | None = None,
    forgotten: Callable[[Bucket], Forgotten] | None = None,
    told: Callable[[Feed], Sequence[Listed] | None] = lambda feed: None,
    before: Callable[[Feed], Loaded] = lambda feed: Loaded(),
    retry_policy: dg.RetryPolicy | None,
    pool: str | None,
) -> dg.AssetsDefinition:
    """The staging table of one feed, loaded from its landing. `before`: what was loaded already and no run has told."""

    @dg.asset(
        key=["staging", feed.name],
        deps=[dg.AssetKey(["landing", feed.name])],
        description=feed.description,
        retry_policy=retry_policy,
        pool=pool,
        metadata={
            "dagster/table_name": f"staging.{feed.name}",
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(c, "varchar") for c in feed.columns]
                + [dg.TableColumn(n, kind) for n, kind in LINEAGE.items()]
            ),
        },
    )
    def load(context: dg.AssetExecutionContext, config: StagingConfig) -> dg.MaterializeResult[None]:
        sign_run(context)
        try:
            there = bucket()
            loaded = load_new(
                feed, there, warehouse, spool,
                objects=objects, size=size, batches=config.max_batches or None, fetching=fetching,
                forgotten=partial(forgotten, there) if forgotten else None, told=told(feed), say=context.log.info,
            )  # fmt: skip
        except Exception as error:
            passes = landing.may_pass(error) or may_pass(error)
            raise dg.Failure(description=str(error), allow_retries=passes) from error
        loaded.add(before(feed))
        with warehouse.reading() as session:
            ((count,),) = session.rows(f"select count(*) from staging.{feed.name}")
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": count,
                "batches": loaded.batches,
                "objects": loaded.objects,
                "rows loaded": loaded.rows,
                "records refused": loaded.refused,
                "objects awaited from a pipe": loaded.awaited,
                "objects by status": loaded.by_status,
                "unknown columns": sorted(loaded.drift),
                "optional columns absent": sorted(loaded.missing),
            }
        )

    return load
