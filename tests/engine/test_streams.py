"""Random streams through the real SQL, against the oracle: any order, any batching, copies, late events, retractions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from c360_assets.landing import Bucket
from generator.truth import Event, changes
from tests.engine.streams import Stage, assert_equals_truth, expected, random_events
from tests.parts import Platform, at_length, settings_at

# What the stream goes through; the last build of each test is the whole project with its checks.
MODELS = ("--exclude-resource-type", "test", "--select", "+customer", "+customer_ties", "+customer_history")
KEYS = 2_000


def home(path: Path, bucket: Bucket) -> Platform:
    return Platform(settings_at(path), bucket).begin()


def events_of(seed: int, keys: int = KEYS) -> list[Event]:
    chance = random.Random(seed)
    return [event for number in range(keys) for event in random_events(chance, f"k{number:04d}")]


def cut(events: list[Event], chance: random.Random, batches: int) -> list[list[list[Event]]]:
    """Batches of one to three objects, at random places."""
    shuffled = chance.sample(events, len(events))
    marks = sorted(chance.sample(range(1, len(shuffled)), batches - 1))
    parts = [shuffled[a:b] for a, b in zip([0, *marks], [*marks, len(shuffled)], strict=True)]
    return [[part[n::objects] for n in range(objects)] for part in parts if (objects := chance.randint(1, 3))]


@pytest.mark.parametrize("seed", [1])
def test_any_order_and_batching_gives_what_the_oracle_says(seed: int, tmp_path: Path, bucket: Bucket) -> None:
    events = events_of(seed)
    digests = []
    for number, batches in enumerate((5, 2, 1)):
        chance = random.Random(seed * 100 + number)
        stage = Stage(home(tmp_path / str(number), bucket))
        for objects in cut(events, chance, batches) if batches > 1 else [[events]]:
            stage.lay(objects)
            stage.platform.build(*MODELS)
        stage.platform.build()
        assert_equals_truth(stage.platform, stage.truth())
        told = stage.platform.table("core.v_customer_change_data")
        assert expected(told) == expected(changes(stage.truth()))
        digests.append(stage.platform.digest())
    assert digests[0] == digests[1] == digests[2]
    stage.platform.build("--full-refresh")
    assert stage.platform.digest() == digests[0]


@at_length
def test_objects_that_are_replaced_leave_no_trace(tmp_path: Path, bucket: Bucket) -> None:
    chance = random.Random(11)
    events = events_of(5, 400)
    stage = Stage(home(tmp_path / "replaced", bucket))
    for objects in cut(events, chance, 4):
        stage.lay(objects)
        stage.platform.build(*MODELS)
        standing = [laid for laid in stage.laid if not laid.superseded]
        for old in chance.sample(standing, 2):
            # The new version keeps some rows, drops some and brings others; now and then it is replaced before it is read.
            kept = chance.sample(old.events, len(old.events) // 2)
            (new,) = stage.lay([kept + chance.sample(events, 30)], replacing=old)
            if chance.random() < 0.4:
                stage.lay([chance.sample(events, 50)], replacing=new)
        stage.platform.build(*MODELS)
        assert_equals_truth(stage.platform, stage.truth())
    stage.platform.build()
    before = stage.platform.digest()
    stage.platform.build("--full-refresh")
    assert stage.platform.digest() == before


def test_replays_of_whole_batches_change_nothing(tmp_path: Path, bucket: Bucket) -> None:
    chance = random.Random(3)
    stage = Stage(home(tmp_path / "replayed", bucket))
    stage.lay(objects := [events_of(9, 200)])
    stage.platform.build(*MODELS)
    before = stage.platform.digest()
    stage.lay([chance.sample(objects[0], len(objects[0]))])
    stage.platform.build()
    assert stage.platform.digest() == before
    assert stage.platform.rows(
        "select sum(duplicates) > 0, sum(received) = sum(accepted + duplicates) from clean.accounting"
    ) == [(True, True)]


def test_a_log_whose_hashes_are_of_another_engine_is_read_all_the_same(tmp_path: Path, bucket: Bucket) -> None:
    stage = Stage(home(tmp_path / "hashed", bucket))
    first, *others = cut(events_of(5, 60), random.Random(5), 3)
    stage.lay(first)
    stage.platform.build(*MODELS)
    with stage.platform.warehouse.writing("test") as session:
        session.execute("update core.customer_log set key_hash = key_hash + 1 where key_hash < 18446744073709551615")
    for objects in others:
        stage.lay(objects)
    stage.platform.build(*MODELS)
    assert_equals_truth(stage.platform, stage.truth())
