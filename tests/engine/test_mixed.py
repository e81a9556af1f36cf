"""Upserts, partial updates, snapshots and envelopes feed one entity at once: any order, any batches, held to the oracle."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from c360_assets.landing import Bucket
from tests.engine.mixed import (
    CHECKED,
    EVERY,
    PROBE,
    Mixed,
    as_on_snowflake,
    keys_of,
    known,
    mixed_project,
    random_objects,
    with_colliding_hashes,
    without,
)
from tests.engine.stories import tell
from tests.engine.streams import assert_equals_truth, expected
from tests.parts import Platform, settings_at

KEYS = 250


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed_project(tmp_path_factory.mktemp("mixed"))


def mixed(home: Path, bucket: Bucket, project: Path) -> Mixed:
    return Mixed(Platform(settings_at(home), bucket, project=project))


@pytest.mark.parametrize("seed", [1])
def test_everything_at_once_gives_what_the_oracle_says(
    seed: int, tmp_path: Path, bucket: Bucket, project: Path
) -> None:
    """In five batches; and in two, with Snowflake's way to take the greatest, and with hashes that many keys share."""
    chance = random.Random(seed)
    objects = random_objects(chance, keys_of(KEYS), 14)
    digests = []
    for number, cuts in enumerate((5, 2)):
        of = with_colliding_hashes(as_on_snowflake(mixed_project(tmp_path / "other"))) if number else project
        stage = mixed(tmp_path / str(number), bucket, of)
        order = random.Random(seed * 10 + number).sample(objects, len(objects))
        for n in range(cuts):
            stage.lay(order[n::cuts])
            stage.build()
            assert_equals_truth(stage.platform, stage.truth(), PROBE, "probe")
        stage.build(*CHECKED)
        digests.append(stage.platform.digest("probe"))
        if number == 0:
            stage.build("--full-refresh", *CHECKED)
            digests.append(stage.platform.digest("probe"))
    assert digests[0] == digests[1] == digests[2]


def test_replaced_and_released_files_leave_what_the_oracle_says_and_the_past_stays_known(
    tmp_path: Path, bucket: Bucket, project: Path
) -> None:
    chance = random.Random(7)
    stage = mixed(tmp_path / "home", bucket, project)
    for _ in range(4):
        stage.lay(random_objects(chance, keys_of(KEYS), 3))
        stage.build()
        stage.believe()
        old = chance.choice(stage.standing())
        stage.lay([(old.feed, old.instant, without(old.rows, chance))], replacing=old)
        for laid in [s for s in stage.standing() if s.feed == "probe_days" and not s.released]:
            if chance.random() < 0.3:
                stage.release(laid)
        stage.build()
        assert_equals_truth(stage.platform, stage.truth(), PROBE, "probe")
        stage.believe()
    stage.build(*CHECKED)
    for at, history in stage.believed:
        assert expected(known(stage.platform, at)) == expected(history)


def test_what_chance_rarely_brings(tmp_path: Path, bucket: Bucket, project: Path) -> None:
    tell(mixed(tmp_path / "home", bucket, project))


def test_type_1_in_every_version(tmp_path: Path, bucket: Bucket) -> None:
    stage = mixed(tmp_path / "home", bucket, mixed_project(tmp_path, every_version=True))
    stage.entity = EVERY
    chance = random.Random(4)
    for _ in range(3):
        stage.lay(random_objects(chance, keys_of(KEYS), 4))
        stage.build(*CHECKED)
        assert_equals_truth(stage.platform, stage.truth(), EVERY, "probe")
