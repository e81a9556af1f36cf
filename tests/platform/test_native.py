"""What Snowflake runs by itself comes to what the oracle says, and to what a run of ours would have made.

The procedures are run as they are rendered, their statements on fakesnow, the control between them by tests.scripting.
"""

from __future__ import annotations

import random
from pathlib import Path

from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from c360_assets.snowflake.native import Merged, native
from c360_assets.transform import entities_alone
from tests.engine.mixed import PROBE, Mixed, keys_of, mixed_project, random_objects, without
from tests.engine.streams import assert_equals_truth
from tests.parts import Platform, on_duckdb
from tests.scripting import Procedure

pytestmark = on_duckdb


def merging(settings: Settings, platform: Platform, entity: str) -> Procedure:
    rendered = entities_alone(platform.project, settings.dbt_home, platform.warehouse, [entity])
    merged = {name: Merged.read(models) for name, models in rendered.items()}
    (found,) = [s for s in native(settings, {}, merged) if s.kind == "procedure"]
    return Procedure(found.sql)


def on_fakesnow(sql: str) -> str:
    """It has no streams, and nothing is in them."""
    return "select 1" if sql.startswith("insert into staging.woken") else sql


def test_upserts_parts_snapshots_and_envelopes_are_merged_by_tasks_and_runs_in_turns(
    on_snowflake: Settings, bucket: Bucket, tmp_path: Path
) -> None:
    chance = random.Random(12)
    platform = Platform(on_snowflake, bucket, project=mixed_project(tmp_path))
    stage = Mixed(platform)
    stage.build()
    procedure = merging(on_snowflake, platform, "probe")
    for turn in range(4):
        stage.lay(random_objects(chance, keys_of(60), 4))
        if turn:
            old = chance.choice(stage.standing())
            stage.lay([(old.feed, old.instant, without(old.rows, chance))], replacing=old)
            for laid in [s for s in stage.standing() if s.feed == "probe_days" and not s.released][:1]:
                stage.release(laid)
        if turn == 2:
            stage.build()
        else:
            with platform.warehouse.writing("test") as session:
                session.execute("use schema core")  # that of the procedure
                assert procedure.run(session, on_fakesnow) == "nothing waits"
        assert_equals_truth(platform, stage.truth(), PROBE, "probe")
    marks = platform.rows("select model, count(*), count(distinct batch) from core.consumed_batches group by model")
    assert [(model, count == distinct) for model, count, distinct in marks] == [("probe_log", True)]
