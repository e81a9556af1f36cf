"""Pending: which feeds hold something that the last layer does not have; what is made of the others can be left out.

Belongs here: the mark that a whole build leaves for each feed, and which tables are made of which feed. A mark names
the project as it was and the newest batch that the feed then had, so changed code, a failed check, a decision on a
refused row, a lost table and a rebuild that broke off all count as something new.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from c360_assets import instants, landing
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket
from c360_assets.warehouse import TEXT, TIMESTAMP, NoWarehouse, Session, Warehouse

BUILT = "staging.built_feeds"
# A row from the start of a rebuild to its end: a later full run goes on with one that broke off.
UNFINISHED = "staging.unfinished_rebuild"


@dataclass(frozen=True)
class Lineage:
    """Which feeds each table is made of, directly or not, in one state of the dbt project.

    `project`: fingerprint of its files; `feeds_of`: {schema.table: names of feeds}.
    """

    project: str
    feeds_of: Mapping[str, frozenset[str]]

    @staticmethod
    def read(manifest: Mapping[str, Any], project: str, feeds: Mapping[str, Feed]) -> Lineage:
        """From dbt's manifest.

        `meta.reads_feeds` names the feeds that a model's macros find in the graph; what stands in `meta.waits_for` is
        only waited for, and makes no difference to what the model holds.
        """
        found: dict[str, frozenset[str]] = {}

        def behind(unique_id: str) -> frozenset[str]:
            if unique_id not in found:
                node = manifest["nodes"][unique_id]
                reads, waits = (node["config"]["meta"].get(name) for name in ("reads_feeds", "waits_for"))
                names = {feed.name for feed in feeds.values() if reads in ("all", feed.entity)} if reads else set()
                for parent in node["depends_on"]["nodes"]:
                    if parent.split(".")[-1] in (waits or ()):
                        continue
                    if parent.startswith("model."):
                        names |= behind(parent)
                    elif parent.startswith("source."):
                        names |= {manifest["sources"][parent]["name"]} & feeds.keys()
                found[unique_id] = frozenset(names)
            return found[unique_id]

        models = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
        return Lineage(project, {f"{node['schema']}.{node['alias']}": behind(key) for key, node in models.items()})

    def made_of(self, feeds: Collection[str]) -> set[str]:
        """The tables that something new in one of the feeds may change; those of the ledger alone are made of any."""
        return {table for table, behind in self.feeds_of.items() if feeds and (not behind or behind & set(feeds))}

    def not_made_of(self, feeds: Collection[str]) -> set[str]:
        """The tables that stay as they are, whatever is new in these feeds."""
        return self.feeds_of.keys() - self.made_of(feeds)

    def feeds_behind(self, tables: Collection[str]) -> set[str]:
        """The feeds that the tables are made of."""
        return {feed for table in tables for feed in self.feeds_of.get(table, ())}

    def served_by(self, tables: Collection[str]) -> set[str]:
        """The feeds of which everything that is made of them is among the tables."""
        return self.feeds_behind(self.feeds_of) - self.feeds_behind(self.feeds_of.keys() - set(tables))


def newest_batches(session: Session) -> dict[str, str]:
    """{feed: its newest batch, load or decision}; a feed without any is not in it."""
    return dict(
        session.rows(
            """
            select feed, max(batch)
            from (
                select feed, batch from staging.object_ledger
                union all
                select feed, batch from staging.quarantine_decisions
            ) as batches
            group by feed
            """
        )
    )


def prepare_marks(session: Session) -> None:
    session.ensure(BUILT, {"feed": TEXT, "project": TEXT, "batch": TEXT})
    session.ensure(UNFINISHED, {"since": TIMESTAMP})


def note_built(session: Session, project: str, batches: Mapping[str, str]) -> None:
    """Everything that is made of these feeds has taken their batches, up to the one named, and no check objects."""
    with session.transaction():
        for feed, batch in batches.items():
            session.execute(f"delete from {BUILT} where feed = ?", [feed])
            session.execute(f"insert into {BUILT} values (?, ?, ?)", [feed, project, batch])


def forget_built(session: Session, feeds: Collection[str]) -> None:
    """A build of something made of these feeds has failed: they are to be built again, new or not.

    The batch stays: what a whole build took before is not to be judged again.
    """
    with session.transaction():
        for feed in feeds:
            session.execute(f"update {BUILT} set project = '' where feed = ?", [feed])


def is_rebuild_unfinished(session: Session) -> bool:
    """Did a rebuild begin and not come to its end? Tables behind the point where it broke off hold what was before."""
    return bool(session.rows(f"select 1 from {UNFINISHED} limit 1"))


def note_rebuild(session: Session) -> None:
    session.execute(f"insert into {UNFINISHED} values (?)", [instants.now()])


def note_rebuilt(session: Session) -> None:
    session.execute(f"delete from {UNFINISHED}")


def unbuilt_feeds(session: Session, lineage: Lineage, feeds: Collection[str]) -> set[str]:
    """The feeds whose batches, or whose project, some model has not seen; or a table of whom is not there."""
    tables = session.tables()
    if not {BUILT, UNFINISHED, "staging.object_ledger", "staging.quarantine_decisions"} <= tables:
        return set(feeds)
    if session.rows(f"select 1 from {UNFINISHED} limit 1"):
        return set(feeds)
    newest = newest_batches(session)
    marks = set(session.rows(f"select feed, project, batch from {BUILT}"))
    behind = {feed for feed in feeds if (feed, lineage.project, newest.get(feed, "")) not in marks}
    for table, made_of in lineage.feeds_of.items():
        if table not in tables:
            behind |= made_of or set(feeds)
    return behind


def missing_tables(session: Session, lineage: Lineage) -> set[str]:
    """The tables of the project that are not there: nothing that reads them could be made."""
    return lineage.feeds_of.keys() - session.tables()


def pending_feeds(
    feeds: Mapping[str, Feed], lineage: Lineage, bucket: Bucket, warehouse: Warehouse, wait: float | None = None
) -> set[str]:
    """The feeds that have objects on S3 which the ledger does not know, or batches that are not built.

    Raises:
        WarehouseBusy: if it cannot be read within `wait` seconds, or the warehouse's own patience.
    """
    try:
        with warehouse.reading(wait) as session:
            known = {feed.name: landing.known_etags(session, feed) for feed in feeds.values()}
            found = unbuilt_feeds(session, lineage, feeds.keys())
    except NoWarehouse:
        return set(feeds)
    return found | {
        feed.name
        for feed in feeds.values()
        if any(known[feed.name].get(listed.key) != listed.etag for listed in bucket.listed(feed))
    }
