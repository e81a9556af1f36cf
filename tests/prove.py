"""Random streams through the engine against the oracle, for as long as one likes: `python -m tests.prove --seconds N`.

A round takes new keys and lays the same events in two orders and cuts, and rebuilds at the end. Rounds are of two kinds, in turn:
- customers: one feed of upserts and deletes with ties, no-ops, nulls, positions, replayed batches, replaced objects;
- mixed, asked at the end for what it believed on the way: a composite key that upserts, partial updates, snapshots with late older files and their guard, releases, and
  Debezium envelopes with truncates feed at once, with type 1 columns, in one of four rounds written to every version, replaced objects, and runs that die between models. Beside it a
  second entity without partial updates.
Prints a line per round and the sum; ends with 1 at the first difference, which `--seed` repeats.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from generator.truth import Entity
from tests.engine import mixed
from tests.engine.mixed import Laid, Mixed, keys_of, mixed_project, models_of, random_objects, without
from tests.engine.streams import EPOCH, Stage, assert_equals_truth, expected
from tests.engine.test_streams import MODELS, cut, events_of
from tests.parts import Platform, dbt_build

CUSTOMER_KEYS, MIXED_KEYS = 2_000, 600
NO_S3 = Bucket(None, "none", "none")


def customers_round(seed: int, folder: Path, project: Path | None = None) -> int:
    """The number of states that agreed with the oracle."""
    chance = random.Random(seed)
    events = events_of(seed, CUSTOMER_KEYS)
    digests: list[Any] = []
    agreed = 0
    for order in range(2):
        home = Settings.load({"C360_HOME": str(folder / f"{seed}-{order}")})
        stage = Stage(Platform(home, NO_S3, project=project))
        for objects in cut(events, chance, chance.randint(2, 6)):
            stage.lay(objects)
            if chance.random() < 0.3:
                stage.lay([chance.sample(events, 40)])
            if chance.random() < 0.5:
                old = chance.choice([laid for laid in stage.laid if not laid.superseded])
                stage.lay([chance.sample(old.events, len(old.events) // 2)], replacing=old)
            if chance.random() < 0.6:
                stage.platform.build(*MODELS)
                assert_equals_truth(stage.platform, stage.truth())
                agreed += 1
        stage.lay([events])
        stage.platform.build(*MODELS)
        assert_equals_truth(stage.platform, stage.truth())
        _assert_from_standing(stage, "customer")
        digests.append(stage.platform.digest())
        agreed += 1
    stage.platform.build("--full-refresh", *MODELS)
    digests.append(stage.platform.digest())
    _same(digests)
    return agreed


def mixed_round(seed: int, folder: Path, project: Path, keys: int = MIXED_KEYS, entity: Entity = mixed.PROBE) -> int:
    """The number of states that agreed with the oracle; `entity` as the project declares it."""
    chance = random.Random(seed)
    objects = random_objects(chance, keys_of(keys), 12)
    # An older version says some of what the newer one does, and other things, which go with it.
    forerunners = {n: chance.sample(rows, len(rows)) for n, (_, _, rows) in enumerate(objects) if chance.random() < 0.3}
    objects = [
        (feed, at, without(rows, chance) if n in forerunners else rows) for n, (feed, at, rows) in enumerate(objects)
    ]
    forerunners = {n: without(rows, chance) for n, rows in forerunners.items()}
    released = {n for n, (feed, _, _) in enumerate(objects) if feed == "probe_days" and chance.random() < 0.3}
    dismissed = {
        n for n, (_, _, rows) in enumerate(objects) if any(None in row["key"] for row in rows) and chance.random() < 0.5
    }
    instants = [at for _, at, _ in objects if at] or [mixed.instant(chance)]
    parts = [
        (chance.choice(instants), chance.choice(("unreadable", "empty")), chance.random() < 0.6)
        for _ in range(chance.randrange(3))
    ]
    digests: list[Any] = []
    of_twin: list[Any] = []
    agreed = 0
    has_twin = (project / "models" / "core" / "twin.yml").exists()
    others = random_objects(chance, keys_of(keys), 6, parts=False) if has_twin else []
    for order in range(2):
        home = Settings.load({"C360_HOME": str(folder / f"{seed}-{order}")})
        stage = Mixed(Platform(home, NO_S3, project=project), entity)
        twin = Mixed(stage.platform, name="twin")
        waiting = chance.sample(others, len(others))
        missing, undecided = chance.sample(parts, len(parts)), []
        said_in_full = _say_twice(stage)
        for _ in _arrivals(stage, objects, forerunners, released, dismissed, chance):
            if missing and chance.random() < 0.4:
                undecided.append(_lay_part(stage, *missing.pop()))
            if undecided and chance.random() < 0.4:
                undecided.pop(0)()
            if waiting and chance.random() < 0.5:
                twin.lay([waiting.pop()])
                if chance.random() < 0.3:
                    twin.build()
            _die(stage, chance)
            if chance.random() < 0.3:
                _build(stage, *mixed.MODELS)
                assert_equals_truth(stage.platform, stage.truth(), entity, "probe")
                stage.believe()
                agreed += 1
        undecided += [_lay_part(stage, *part) for part in missing]
        if order == 0:
            _build(stage, *mixed.MODELS)
        for decide in undecided:
            decide()
        stage.lay([("probe_changes", None, said_in_full.rows[:1])], replacing=said_in_full)
        _build(stage, *mixed.CHECKED)
        assert_equals_truth(stage.platform, stage.truth(), entity, "probe")
        for at, history in stage.believed:
            assert expected(mixed.known(stage.platform, at)) == expected(history), f"as of {at}"
            valid = mixed.instant(chance)
            held = [v for v in history if v["valid_from"] <= valid and (v["valid_to"] is None or v["valid_to"] > valid)]
            assert expected(mixed.known(stage.platform, at, valid)) == expected(held), f"at {valid} as of {at}"
        of_deletes = "select count(version_from) from core.probe_log where op = 'delete'"
        assert stage.platform.rows(of_deletes) == [(0,)], "a delete belongs to a version"
        _assert_from_standing(stage, "probe")
        digests.append(stage.platform.digest("probe"))
        agreed += 1
        if has_twin:
            twin.lay(waiting)
            twin.build()
            assert_equals_truth(stage.platform, twin.truth(), mixed.PROBE, "twin")
            of_twin.append(stage.platform.digest("twin"))
            agreed += 1
    stage.build("--full-refresh", *mixed.MODELS)
    digests.append(stage.platform.digest("probe"))
    _same(digests)
    if has_twin:
        twin.build("--full-refresh", *models_of("twin"))
        _same([*of_twin, stage.platform.digest("twin")])
    return agreed


def _build(stage: Mixed, *arguments: str) -> None:
    """Builds; a key whose history is another than before has to be among those that the run says it touched."""
    before, batches = _shown(stage)
    stage.build(*arguments)
    after, _ = _shown(stage)
    different = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    touched = {
        row[:2] for row in stage.platform.rows("select k1, k2, batch from core.probe_changes") if row[2] not in batches
    }
    if not different <= touched:
        raise AssertionError(f"changed, and not among the changes of the run: {sorted(different - touched)[:5]}")


def _shown(stage: Mixed) -> tuple[dict[Any, list[Any]], set[str]]:
    """The history by key, and the batches that have changed something so far."""
    there = "select 1 from information_schema.tables where table_schema = 'core' and table_name = 'probe_changes'"
    history: dict[Any, list[Any]] = {}
    if not stage.platform.rows(there):
        return history, set()
    for row in stage.platform.rows("select * from core.probe_history order by all"):
        history.setdefault(row[:2], []).append(row[2:])
    return history, {batch for (batch,) in stage.platform.rows("select distinct batch from core.probe_changes")}


def _arrivals(
    stage: Mixed,
    objects: list[Any],
    forerunners: dict[int, list[Any]],
    released: set[int],
    dismissed: set[int],
    chance: random.Random,
) -> Iterator[None]:
    """Every object in some order, one to three a batch; of some an older version comes first, some come twice."""
    waiting = chance.sample(range(len(objects)), len(objects))
    laid: dict[int, Laid] = {}
    while waiting:
        numbers = [waiting.pop() for _ in range(min(chance.randint(1, 3), len(waiting)))]
        early = [n for n in numbers if n in forerunners and n not in laid]
        again = [n for n in numbers if n in laid]
        fresh = [n for n in numbers if n not in early and n not in again]
        if early or fresh:
            start = len(stage.laid)
            rows = {n: forerunners[n] for n in early}
            stage.lay([(objects[n][0], objects[n][1], rows.get(n, objects[n][2])) for n in (*early, *fresh)])
            laid |= dict(zip((*early, *fresh), stage.laid[start:], strict=True))
        for n in again:
            stage.lay([objects[n]], replacing=laid[n])
            laid[n] = stage.laid[-1]
        waiting = [n for n in early if n not in waiting] + waiting
        for n in numbers:
            if n in released and n not in early:
                stage.release(laid[n])
            if n in dismissed and n not in early:
                stage.dismiss(laid[n])
        if chance.random() < 0.3 and fresh:
            stage.lay([objects[fresh[0]]])  # the same under another name
            if fresh[0] in released:
                stage.release(stage.laid[-1])
            if fresh[0] in dismissed:
                stage.dismiss(stage.laid[-1])
        yield


def _say_twice(stage: Mixed) -> Laid:
    """An event of nothing but nulls after one of values: a whole row says so, and a partial one. Returns the whole one's object."""
    values = {"o1": "x", "t1": "a", "t2": "2020-02-03"}
    first, second = (
        {
            "key": ("twice", "said"),
            "at": EPOCH + timedelta(hours=hour),
            "pos": None,
            "op": "U",
            "values": said,
            "shape": 0,
        }
        for hour, said in ((0, values), (1, dict.fromkeys(values)))
    )
    stage.lay([("probe_changes", None, [first, second]), ("probe_parts", None, [second])])
    return stage.laid[-2]


def _lay_part(stage: Mixed, instant: datetime, status: str, decided: bool) -> Callable[[], None]:
    """A file that is no whole one comes; returns what a person says of it in the end, which may be nothing."""
    laid = stage.lay_part(instant, status)
    if not decided:
        return lambda: None
    return partial(stage.dismiss if status == "unreadable" else stage.release, laid)


def _die(stage: Mixed, chance: random.Random) -> None:
    """A run that gets through some models only: what it leaves is finished by the next."""
    if chance.random() < 0.3:
        models = mixed.MODELS[3:]
        through = chance.choice(("probe_rows", "probe_absences", "probe_accepted"))
        some = models[: models.index(through) + 1]
        companions = ("probe_snapshots",) if "probe_absences" in some else ()
        dbt_build(stage.platform.warehouse, stage.platform.project, *mixed.MODELS[:3], *some, *companions)


def _assert_from_standing(stage: Stage | Mixed, name: str) -> None:
    """Every event of the log names an object that stands."""
    standing = {(laid.key, laid.etag) for laid in stage.laid if not laid.superseded}
    named = set(stage.platform.rows(f"select distinct _key, _etag from core.{name}_log where _row > 0"))
    assert named <= standing, f"core.{name}_log names objects that were replaced: {sorted(named - standing)[:3]}"


def _same(digests: list[Any]) -> None:
    if not all(digest == digests[0] for digest in digests):
        raise AssertionError(f"two orders of the same events, or the rebuild, differ: {digests}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, help="one round, this one; even: customers, odd: mixed")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    until = time.monotonic() + options.seconds
    rounds = keys = states = 0
    with tempfile.TemporaryDirectory(prefix="c360-prove-") as place:
        usual = mixed_project(Path(place) / "usual", twin=True), mixed.PROBE
        every = mixed_project(Path(place) / "every", twin=True, every_version=True), mixed.EVERY
        while rounds == 0 or (time.monotonic() < until and options.seed is None):
            kind, count = ("mixed", MIXED_KEYS) if seed % 2 else ("customers", CUSTOMER_KEYS)
            with tempfile.TemporaryDirectory(prefix="c360-prove-") as folder:
                try:
                    if seed % 2:
                        project, entity = every if seed % 8 == 1 else usual
                        agreed = mixed_round(seed, Path(folder), project, entity=entity)
                    else:
                        agreed = customers_round(seed, Path(folder))
                except AssertionError as difference:
                    print(f"seed {seed}: {difference}")
                    return 1
            rounds, keys, states = rounds + 1, keys + count, states + agreed
            print(f"seed {seed}: {kind}, {count} keys in 2 orders and a rebuild, {agreed} states agreed", flush=True)
            seed += 1
    print(f"{keys} keys, {rounds * 3} permutations and {states} states agreed with the oracle, none differed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
