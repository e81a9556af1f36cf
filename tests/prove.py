"""Random streams through the engine against the oracle, for as long as one likes: `python -m tests.prove --seconds N`.

Each round takes new keys and lays the same events in two orders and cuts, with replaced objects, replays and a rebuild
at the end. Prints a line per round and the sum; ends with 1 at the first difference, which `--seed` repeats.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from tests.engine.streams import Stage, assert_equals_truth
from tests.engine.test_streams import MODELS, cut, events_of
from tests.parts import Platform

KEYS = 500


def one_round(seed: int, folder: Path) -> int:
    """The number of batches that agreed with the oracle."""
    chance = random.Random(seed)
    events = events_of(seed, KEYS)
    digests: list[Any] = []
    batches = 0
    for order in range(2):
        no_s3 = Bucket(None, "none", "none")
        stage = Stage(Platform(Settings.load({"C360_HOME": str(folder / f"{seed}-{order}")}), no_s3))
        for objects in cut(events, chance, chance.randint(2, 7)):
            stage.lay(objects)
            if chance.random() < 0.3:
                stage.lay([chance.sample(events, 40)])
            if chance.random() < 0.5:
                old = chance.choice([laid for laid in stage.laid if not laid.superseded])
                stage.lay([chance.sample(old.events, len(old.events) // 2)], replacing=old)
            if chance.random() < 0.7:
                stage.platform.build(*MODELS)
                assert_equals_truth(stage.platform, stage.truth())
                batches += 1
        stage.lay([events])
        stage.platform.build()
        assert_equals_truth(stage.platform, stage.truth())
        digests.append(stage.platform.digest())
        batches += 1
    stage.platform.build("--full-refresh", *MODELS)
    digests.append(stage.platform.digest())
    if not digests[0] == digests[1] == digests[2]:
        raise AssertionError(f"two orders of the same events, or the rebuild, differ: {digests}")
    return batches


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None, help="one round with this seed")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    rounds = batches = 0
    while rounds == 0 or (time.monotonic() < until and options.seed is None):
        with tempfile.TemporaryDirectory(prefix="c360-prove-") as folder:
            try:
                agreed = one_round(seed, Path(folder))
            except AssertionError as difference:
                print(f"seed {seed}: {difference}")
                return 1
        rounds, batches = rounds + 1, batches + agreed
        print(f"seed {seed}: {KEYS} keys in 2 orders and a rebuild, {agreed} states agreed", flush=True)
        seed += 1
    print(f"{rounds * KEYS} keys, {rounds * 3} permutations and {batches} states agreed with the oracle, none differed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
