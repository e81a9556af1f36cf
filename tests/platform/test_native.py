"""What Snowflake runs by itself comes to what the oracle says, and to what a run of ours would have made.

The procedures are run as they are rendered, their statements on fakesnow, the control between them by tests.scripting.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from c360_assets.snowflake.native import Merged, native
from c360_assets.transform import entities_alone
from c360_assets.warehouse import WarehouseRefused
from tests.engine.mixed import PROBE, Mixed, keys_of, mixed_project, random_objects, without
from tests.engine.streams import assert_equals_truth
from tests.parts import Platform, on_both, on_duckdb
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


@pytest.fixture
def stage(on_snowflake: Settings, bucket: Bucket, tmp_path: Path) -> Mixed:
    """An entity of four feeds, whose tables a run of ours has made."""
    made = Mixed(Platform(on_snowflake, bucket, project=mixed_project(tmp_path)))
    made.build()
    return made


def run(procedure: Procedure, platform: Platform, seen: Callable[[str], str] = on_fakesnow) -> str:
    with platform.warehouse.writing("test") as session:
        session.execute("use schema core")  # that of the procedure
        return procedure.run(session, seen)


@on_both
def test_upserts_parts_snapshots_and_envelopes_are_merged_by_tasks_and_runs_in_turns(stage: Mixed) -> None:
    chance = random.Random(12)
    platform = stage.platform
    procedure = merging(platform.settings, platform, "probe")
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
            assert run(procedure, platform) == "nothing waits"
        assert_equals_truth(platform, stage.truth(), PROBE, "probe")
    marks = platform.rows("select model, count(*), count(distinct batch) from core.consumed_batches group by model")
    assert [(model, count == distinct) for model, count, distinct in marks] == [("probe_log", True)]


@on_both
def test_what_is_staged_while_a_task_is_at_work_is_taken_whole_by_the_next(stage: Mixed) -> None:
    """An object that makes way is known as soon as its successor is staged, and a file of a snapshot before its rows are made."""
    chance = random.Random(8)
    platform = stage.platform
    procedure = merging(platform.settings, platform, "probe")
    keys = keys_of(30)
    stage.lay(random_objects(chance, keys, 5))
    old = next(laid for laid in stage.standing() if laid.feed == "probe_changes")
    days = [o for o in random_objects(chance, keys, 12) if o[0] == "probe_days"][:2]
    meanwhile = {
        "create or replace temporary table probe_absences__batches": lambda: stage.lay(days),
        "create or replace temporary table probe_log__batches": lambda: stage.lay(
            [(old.feed, old.instant, without(old.rows, chance))], replacing=old
        ),
    }

    def load_comes_between(sql: str) -> str:
        for beginning in [b for b in meanwhile if sql.startswith(b)]:
            meanwhile.pop(beginning)()
        return on_fakesnow(sql)

    assert run(procedure, platform, load_comes_between) == "more waits"
    assert not meanwhile
    assert run(procedure, platform) == "nothing waits"
    assert_equals_truth(platform, stage.truth(), PROBE, "probe")


@on_both
def test_what_another_run_took_meanwhile_is_not_taken_again_and_another_declaration_is_told(stage: Mixed) -> None:
    platform = stage.platform
    procedure = merging(platform.settings, platform, "probe")
    stage.lay(random_objects(random.Random(3), keys_of(20), 2))

    def another_takes_it(sql: str) -> str:
        if sql == "begin transaction":
            with platform.warehouse.writing("another") as session:
                session.execute(
                    "insert into clean.consumed_batches select 'probe_rows', max(batch) from staging.object_ledger"
                )
        return on_fakesnow(sql)

    with pytest.raises(WarehouseRefused, match="another run has built probe_rows meanwhile"):
        run(procedure, platform, another_takes_it)
    assert platform.rows("select count(*) from clean.probe_rows") == [(0,)]
    with platform.warehouse.writing("test") as session:
        session.execute("delete from clean.consumed_batches")
        session.execute("update core.declarations set declaration = '{}' where model = 'probe_log'")
    with pytest.raises(WarehouseRefused, match="probe_log was made for another declaration"):
        run(procedure, platform)
    assert platform.rows("select count(*) from core.probe_log") == [(0,)]
