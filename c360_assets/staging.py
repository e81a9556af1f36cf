"""Staging: rows exactly as received, and the ledger row of their object, in one transaction.

Belongs here: the load of a batch, one asset factory. Objects are read and spooled as
Parquet before the warehouse is opened, so a crash at any point leaves either all of a batch or nothing of it, and a
second run gives the same tables.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import dagster as dg

from c360_assets import landing, registers
from c360_assets.erasure import Forgotten, Scope, erase
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, Listed
from c360_assets.processes import sign_run
from c360_assets.snowflake.arrivals import Arrived, Fetching, Plain, nothing_arrived
from c360_assets.spool import GONE, LINEAGE, MOVED, Outcome, Spool, read_all, spool_folder, stated_file_time
from c360_assets.warehouse import Session, Warehouse, may_pass


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
    is_prepared: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Loaded:
    """Loads what is new of the feed, batch by batch, each in a transaction of its own; at most `batches` of them.

    What lands, or changes under our hands, after the one listing is left to the next run: an object that is rewritten
    all the time does not hold this one. With `fetching` the warehouse brings what it can, and we read the rest. Who is
    `forgotten`, when a batch is written, does not come back. Of objects that are `told` S3 is not asked for others.
    `is_prepared`: the tables are there, as they are declared.
    """
    total = Loaded()
    waiting = {o.key: o for o in (bucket.listed(feed) if told is None else told)}
    while batches is None or total.batches < batches:
        with warehouse.writing(f"preparing {feed.name}") as session:
            if total.batches == 0 and not is_prepared:
                registers.prepare_tables(session, [feed])
            known = landing.known_etags(session, feed, list(waiting) if told is not None else None)
            batch, now = registers.next_batch(session)
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
        if not registers.is_newest(session, batch):
            return False
        registers.supersede(session, feed, outcomes, now)
        if source is not None:
            session.load(f"staging.{feed.name}", spooled.names, source)
        arrived.take(session, batch, now, {o.listed.key for o in outcomes})
        registers.write_registers(session, feed, outcomes, batch, now)
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
    later, now = registers.next_batch(session)
    found = erase(session, bucket, feed, told.pseudonym_of, Scope.of_batch(batch), later, now)
    if found:
        say(
            f"{feed.name}: {found.dropped + found.refused} records of persons who are forgotten were taken out, "
            f"{found.changed} name a pseudonym; {len(found.objects)} objects were written anew"
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


class Told(dg.Config):
    """An object as somebody told of it: time of S3 in ISO's form, UTC; size in bytes."""

    key: str
    etag: str
    size: int
    last_modified: str


class StagingConfig(dg.Config):
    """`max_batches`: how many batches one run loads; 0 means all that is new. `told`: of these objects alone."""

    max_batches: int = 0
    told: list[Told] | None = None

    @property
    def listed(self) -> list[Listed] | None:
        if self.told is None:
            return None
        return [Listed(datetime.fromisoformat(t.last_modified), t.key, t.etag, t.size) for t in self.told]


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
    between: Callable[[], object] = lambda: None,
    is_prepared: bool = False,
    retry_policy: dg.RetryPolicy | None,
    pool: str | None,
) -> dg.AssetsDefinition:
    """The staging table of one feed, loaded from its landing. `before`: what was loaded already and no run has told;
    `between`: what a process that stays does beside it, which has `is_prepared` the tables."""

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
        between()
        try:
            there = bucket()
            loaded = load_new(
                feed, there, warehouse, spool,
                objects=objects, size=size, batches=config.max_batches or None, fetching=fetching,
                forgotten=partial(forgotten, there) if forgotten else None, say=context.log.info,
                told=told(feed) if config.told is None else config.listed, is_prepared=is_prepared,
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
