"""Worker: a process that stays, sees new objects at once and makes of them what has to be there in seconds.

Belongs here: the loop. A lap loads one batch of one feed and builds what has to follow at once, by the same ledger and
the same marks as everybody else. A run of Dagster follows the laps within seconds: it goes over the same graph, checks
what they left and tells it; to record each lap by itself would take longer than the lap. Where a lap meets anything odd
the run comes at once, and meets it too. Where the worker is gone the sensors take over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta

import dagster as dg

from c360_assets import (
    automation,
    checks,
    instants,
    laps,
    lease,
    local,
    pending,
    registers,
    report,
    serve,
    stages,
    staging,
    transform,
)
from c360_assets.entities import declared
from c360_assets.erasure import forgotten_of
from c360_assets.feeds import load_feeds
from c360_assets.keeping import Keeping
from c360_assets.landing import Listed
from c360_assets.object_events import ObjectEvents
from c360_assets.persons import hidden_columns
from c360_assets.processes import run_here
from c360_assets.retention import BY_WORKER, Pruning
from c360_assets.settings import Settings
from c360_assets.store import Store
from c360_assets.waiting import LONGEST, Waiting
from c360_assets.warehouse import Warehouse, WarehouseBusy, WarehouseRefused, may_pass
from c360_assets.warm import WarmDbt

# Seconds between two whole builds; of quiet before one is made sooner.
WHOLE = 60.0
# Seconds of listening in vain, one thing and another done in between, before a whole build is made sooner.
QUIET = 3.0
# Seconds until a run tells of a lap: where no lap is due, and in any case.
TELL, TELL_ANYWAY = 60.0, 90.0
# Rows of a failing test that are shown.
SHOWN = 20
# Seconds after which the page is made anew, where no quiet moment comes before.
PAGE = 900.0
# Hour, UTC, after which everything is made and checked once a day: the nightly run stands back for a worker.
NIGHT = 2
# Seconds between two looks for what is due, in the middle of a run.
SQUEEZE = 0.3
# After a whole build the next one rests so many times as long as it took, unless nothing else is to be done.
REST = 15
WORKER = "worker"
NOT_NOW = (WarehouseBusy, WarehouseRefused)


class Worker:
    """The worker of one home. `build` makes the graph; `run` goes on until `stop`.

    Where dbt cannot be done without, a lap is a run of Dagster, with dbt in this process, and none comes in the middle
    of another.
    """

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        warehouse: Warehouse,
        open_events: Callable[[], ObjectEvents | None],
        build: Callable[..., dg.Definitions],
        say: Callable[[str], None],
    ) -> None:
        self._settings, self._instance, self._warehouse = settings, instance, warehouse
        self._say, self._keeping = say, Keeping(warehouse)
        self._feeds = load_feeds([settings.dbt_project / "models" / "staging"])
        self._bucket = local.landing_bucket(settings)
        manifest = transform.prepare_manifest(settings.dbt_project, settings.dbt_home, warehouse)
        self._lineage = transform.lineage_of(manifest, self._feeds)
        folder = transform.with_parsed(manifest, settings.dbt_home / WORKER)
        self._dbt = WarmDbt(settings.dbt_project, folder, warehouse, say)
        defs = build(
            settings,
            warehouse=warehouse,
            feeds=self._feeds,
            manifest=manifest,
            resident=laps.Resident(
                self._dbt, lambda feed: self._plan, lambda feed: self._taken(feed.name), self._squeeze
            ),
        )
        self._sync = defs.resolve_job_def(automation.SYNC)
        self._graph = defs.resolve_asset_graph()
        quick = {job.name for job in defs.resolve_all_job_defs()}
        self._jobs = {f: defs.resolve_job_def(f"{f}_seconds") for f in self._feeds if f"{f}_seconds" in quick}
        self._laps = {name: lap for name, lap in laps.laps_of(manifest, self._lineage).items() if name in self._jobs}
        self._hidden = hidden_columns(declared(settings.dbt_project), self._feeds)
        self._forgotten = forgotten_of(settings)
        customer = declared(settings.dbt_project).get("customer")
        served = serve.sources(customer.personal if customer else ())
        self._served = [each for each in served if each.reads in self._lineage.feeds_of]
        self._waiting = Waiting(
            self._feeds, self._bucket, warehouse, open_events, settings.batch_objects, settings.batch_bytes, say
        )
        self._plan: Sequence[Listed] = ()
        self._tally = {name: staging.Loaded() for name in self._feeds}
        # Feeds with laps that no run has told, and since when.
        self._untold: dict[str, float] = {}
        # Feeds with something that only a whole build makes, and since when; when the next one may be.
        self._behind: dict[str, float] = {}
        self._whole_at = self._retry_at = self._squeezed_at = self._page_at = time.monotonic()
        self._quiet, self._failed = 0.0, 0
        self._night = self._trimmed = _night_of(instants.now())
        # What readers see, piece by piece, of what was built; all of it at first, for who died before may have left it.
        every = self._graph.materializable_asset_keys
        self._to_serve = _pieces({key for key in every if key.path[0] == serve.SERVING})
        # While a run lets laps in: the feeds of which they brought more. Is it one that serves, or of everything?
        self._squeezed: set[str] | None = None
        self._is_serving = self._is_whole = False
        # Has a lap loaded what it then could not build?
        self._is_half_done = self._is_ending = False
        self._dbt.between, self._dbt.between_after = self._squeeze, laps.LAYERS

    def run(self, stop: Callable[[], bool]) -> None:
        lease.beat(self._settings.home)
        with self._warehouse.kept("preparing the worker"), self._warehouse.writing("worker") as session:
            stages.prepare(session)
            registers.prepare_tables(session, list(self._feeds.values()))
            for name in pending.unbuilt_feeds(session, self._lineage, self._feeds.keys()):
                self._behind[name] = time.monotonic()
            self._dbt.learn()
        pruning = Pruning(self._instance, self._settings.dagster_home)
        with self._keeping:
            while not stop():
                lease.beat(self._settings.home)
                self._waiting.list_now_and_then()
                pruning.look()
                began = time.monotonic()
                self._waiting.hear()
                turn = self._waiting.turn()
                self._quiet = self._quiet + time.monotonic() - began if turn is None else 0.0
                if turn is None:
                    self._keeping.look(is_due=False)
                elif self._lap(turn):
                    self._left_behind([turn])
                else:
                    self._keeping.let_go()
                # One thing at a time: a lap may be due again, and comes first.
                if not self._tell(TELL_ANYWAY if self._waiting.due() else TELL):
                    self._catch_up()
        # No laps any more: they would be told in their turn, and where objects keep coming that never ends.
        self._is_ending = True
        while self._tell(0.0):
            lease.beat(self._settings.home)

    def _tell(self, after: float) -> bool:
        """The run of a feed whose laps no run has told for so many seconds, the oldest first; was there one?"""
        name = min(self._untold, key=lambda name: self._untold[name], default=None)
        if name is None or time.monotonic() - self._untold[name] < after:
            return False
        del self._untold[name]
        with self._letting_laps_in() as brought:
            self._run(name, ())
        self._left_behind(brought)
        return True

    def _catch_up(self) -> None:
        """What laps leave out: all of it in a quiet moment, else a feed at a time and only now and then. What readers
        see of it follows in runs of its own, so that laps come between."""
        now = time.monotonic()
        is_quiet = self._quiet >= QUIET
        if self._night != (night := _night_of(instants.now())):
            self._night = night
            self._left_behind(self._feeds)
        if now < self._retry_at or (self._waiting.due() and now < self._whole_at + WHOLE):
            return
        is_page_due = is_quiet or now >= self._page_at
        piece = next((each for each in self._to_serve if is_page_due or report.KEY not in each), None)
        if piece is not None:
            self._is_serving = report.KEY not in piece
            with self._letting_laps_in() as brought:
                worked = self._sync_run(piece, "serving")
            self._left_behind(brought)
            if worked:
                self._to_serve.remove(piece)
                if report.KEY in piece:
                    self._page_at = time.monotonic() + PAGE
        elif self._behind and (is_quiet or now >= self._whole_at):
            worked = self._whole(list(self._behind) if is_quiet else [min(self._behind, key=lambda n: self._behind[n])])
            done = time.monotonic()
            self._whole_at = done + max(WHOLE, (done - now) * REST)
        else:
            return
        self._failed = 0 if worked else self._failed + 1
        if not worked:
            self._retry_at = time.monotonic() + min(2.0**self._failed, LONGEST)

    def _whole(self, feeds: Collection[str]) -> bool:
        """Everything that is made of these feeds, but for what readers see."""
        made = automation.made_of(feeds, self._lineage.not_made_of(feeds)).resolve(self._graph)
        served = {key for key in made if key.path[0] == serve.SERVING}
        self._is_whole = True
        with self._letting_laps_in() as brought:
            worked = self._sync_run(made - served, "whole")
        if worked:
            self._to_serve = _pieces(served.union(*self._to_serve))
            for name in feeds:
                del self._behind[name]
        self._left_behind(brought)
        return worked

    @contextmanager
    def _letting_laps_in(self) -> Iterator[set[str]]:
        """Laps come between the models of a run and what it tells; yields the feeds of which they brought more."""
        brought: set[str] = set()
        self._squeezed = brought
        try:
            yield brought
        finally:
            self._squeezed = None
            self._is_serving = self._is_whole = False

    def _left_behind(self, feeds: Collection[str]) -> None:
        for name in feeds:
            self._behind.setdefault(name, time.monotonic())

    def _squeeze(self) -> bool:
        """A lap in the middle of a run, where one is due; none within a lap, and none that needs a run. False where it
        loaded what it could not build: the run must not take it for sound."""
        now = time.monotonic()
        if self._squeezed is None or self._is_ending or now - self._squeezed_at < SQUEEZE:
            return True
        if not self._warehouse.does_without_dbt:
            return True
        self._is_half_done = False
        squeezed, self._squeezed = self._squeezed, None
        try:
            lease.beat(self._settings.home)
            self._waiting.hear(wait=False)
            turn = self._waiting.turn()
            if turn is not None and self._lap(turn, may_run=False):
                squeezed.add(turn)
        finally:
            self._squeezed, self._squeezed_at = squeezed, time.monotonic()
        return not self._is_half_done

    def _taken(self, name: str) -> staging.Loaded:
        """What was loaded since the last run told it."""
        taken, self._tally[name] = self._tally[name], staging.Loaded()
        self._untold.pop(name, None)
        return taken

    def _lap(self, name: str, *, may_run: bool = True) -> bool:
        """One batch of the feed, up to what has to be there in seconds; did it work? A run, where one `may_run`, makes
        what a lap cannot."""
        plan, seen = self._waiting.batch(name)
        began = time.monotonic()
        landed = min((each.last_modified for each in plan), default=None)
        at: dict[str, datetime | None] = {"landed": landed, "seen": seen}
        try:
            if may_run:
                self._keeping.look(is_due=True)
            if self._dbt.knows(self._laps[name].names):
                worked = self._quick(name, plan, at) or (may_run and self._run(name, plan, at))
            else:
                worked = may_run and self._run(name, plan, at)
        except NOT_NOW as error:
            self._put_off(error)
            worked = False
        took = time.monotonic() - began
        if worked:
            self._waiting.done(name, plan, took)
        else:
            self._say(f"{name}: again in {self._waiting.failed(name, plan, took):.0f} s")
        return worked

    def _quick(self, name: str, plan: Sequence[Listed], at: dict[str, datetime | None]) -> bool:
        """A lap of which a run will tell; False where it meets anything odd, which a run may look at at once."""
        try:
            with self._warehouse.kept(f"feed {name}"):
                loaded = staging.load_new(
                    self._feeds[name], self._bucket, self._warehouse, self._settings.spool,
                    objects=self._settings.batch_objects, size=self._settings.batch_bytes, batches=1,
                    forgotten=lambda: self._forgotten(self._bucket), told=plan, is_prepared=True,
                )  # fmt: skip
                if not loaded.batches and not self._waiting.is_again(name):
                    return True  # told of a second time: the ledger has it all, and what follows it was made
                at["staged"] = instants.now()
                self._is_half_done = True
                self._tally[name].add(loaded)
                self._untold.setdefault(name, time.monotonic())
                if self._follow(name):
                    self._is_half_done = False
                    at["served"] = self._serve(name)
                    self._note(name, plan, loaded.rows, at)
                    return True
        except NOT_NOW:
            raise
        except Exception as error:  # noqa: BLE001 - S3, DuckDB, a record that breaks the reader: the run tells which
            self._say(f"{name}: {error}")
        return False

    def _follow(self, name: str) -> bool:
        """What follows the load; False where a run has to look at it."""
        lap = self._laps[name]
        with self._warehouse.writing("looking at staging") as session:
            behind = [self._feeds[each] for each in sorted(self._lineage.feeds_behind(lap.tables))]
            if checks.held_up(session, behind, self._hidden):
                return False
        # What is made in a whole run is made of what laps bring in the middle of it: of that all checks have to hold.
        built = self._dbt.build(lap.names | set(lap.last) if self._is_whole else lap.names, SHOWN)
        return all(each.status in ("success", "pass", "warn") for each in built)

    def _serve(self, name: str) -> datetime | None:
        """What readers are to see in seconds; None where the feed has nothing of it, or the run around it serves."""
        chosen = [each for each in self._served if laps.SERVED.get(each.reads) in self._laps[name].tables]
        if not chosen or self._is_serving:
            return None
        serve.serve(self._served, chosen, self._warehouse, Store(self._settings.serving_url))
        return instants.now()

    def _run(self, name: str, plan: Sequence[Listed], at: dict[str, datetime | None] | None = None) -> bool:
        """A run of Dagster: of the planned objects, if any, and of the laps that none has told; did it work?"""
        self._plan = plan
        tally = self._tally[name]
        tags = BY_WORKER | {
            "c360/worker": name,
            "c360/laps": str(tally.batches),
            "c360/objects": str(tally.objects + len(plan)),
        }
        try:
            with self._warehouse.kept(f"feed {name}"):
                result = run_here(self._jobs[name], self._instance, tags=tags, while_created=self._squeeze)
                if result.success and at is not None:
                    self._note(name, plan, 0, at)
        except NOT_NOW as error:
            self._put_off(error)
            return False
        finally:
            self._plan = ()
        if not result.success:
            self._say(f"{name}: run {result.run_id[:8]} failed")
        return bool(result.success)

    def _note(self, name: str, plan: Sequence[Listed], rows: int, at: dict[str, datetime | None]) -> None:
        if not plan:
            return  # it was loaded by a lap that failed, and landed long ago
        committed = self._dbt.at
        for layer in ("core", "gold"):
            of_layer = [when for table, when in committed.items() if self._dbt.schema_of(table) == layer]
            at[layer] = max(of_layer, default=None)
        with self._warehouse.writing("noting") as session:
            stages.record(session, name, len(plan), rows, at)
            if self._trimmed != self._night:
                self._trimmed = self._night
                stages.trim(session)

    def _put_off(self, error: BaseException) -> None:
        """What passes is said and tried again; what does not ends the worker: a login refused again and again locks."""
        if not may_pass(error):
            raise error
        self._say(str(error))

    def _sync_run(self, selection: Collection[dg.AssetKey], what: str) -> bool:
        """A run of Dagster of these assets and their checks, which loads nothing; did it work?"""
        try:
            with self._warehouse.kept(f"a run of the worker: {what}"):
                tags = BY_WORKER | {"c360/worker": what}
                result = run_here(
                    self._sync, self._instance, tags=tags, selection=sorted(selection), while_created=self._squeeze
                )
        except NOT_NOW as error:
            self._put_off(error)
            return False
        if not result.success:
            self._say(f"run {result.run_id[:8]} ({what}) failed")
        return bool(result.success)


def _pieces(served: Collection[dg.AssetKey]) -> list[set[dg.AssetKey]]:
    """The tables, which are served together, and then the page."""
    page = {key for key in served if key == report.KEY}
    return [piece for piece in (set(served) - page, page) if piece]


def _night_of(now: datetime) -> date:
    """The night that was last, by the day on which it ended."""
    return (now - timedelta(hours=NIGHT)).date()
