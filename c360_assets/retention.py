"""Retention: runs that nobody will look at again, and what they have written.

Belongs here: which runs go, and all that goes with them. A worker makes thousands of runs a day, each with an event log
of its own; what an asset was made of last, and how its checks stood, stays known without them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as sa

BY_WORKER = {"c360/by": "worker"}
# How long runs are kept: the worker's, which say little one by one, and all others.
OF_WORKER, OF_OTHERS = timedelta(days=1), timedelta(days=30)
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# Of each check so many of its last evaluations are kept, whatever became of their runs.
EVALUATIONS = 30
# Seconds between two looks for runs that are too old; between two while there are more, of which a few go at once.
_EVERY, _ON, _AT_ONCE = 300.0, 5.0, 3
# Runs that a sensor takes away at once, in a tick of a minute at most.
_IN_A_TICK = 100


class Pruning:
    """What is too old goes, a few runs at a time, in the pauses of a process that stays."""

    def __init__(self, instance: dg.DagsterInstance, dagster_home: Path) -> None:
        self._instance, self._home = instance, dagster_home
        self._at = time.monotonic()

    def look(self) -> None:
        """Takes away a few, if it is time again."""
        if time.monotonic() < self._at:
            return
        is_more = prune(self._instance, self._home, most=_AT_ONCE) == _AT_ONCE
        if not is_more:
            prune_evaluations(self._instance)
        self._at = time.monotonic() + (_ON if is_more else _EVERY)


def prune(instance: dg.DagsterInstance, dagster_home: Path, *, most: int = 200, now: datetime | None = None) -> int:
    """Takes away at most so many runs that are finished and old, the oldest first; how many it were."""
    now, gone = now or datetime.now(UTC), 0
    for kept, tags in ((OF_WORKER, BY_WORKER), (OF_OTHERS, None)):
        old = dg.RunsFilter(created_before=now - kept, tags=tags, statuses=_FINISHED)
        for run in instance.get_runs(old, limit=most - gone, ascending=True) if most > gone else ():
            instance.delete_run(run.run_id)
            # Dagster empties a run's event log, and leaves the file: most of what a run takes.
            for ending in ("", "-wal", "-shm"):
                (dagster_home / "history" / "runs" / f"{run.run_id}.db{ending}").unlink(missing_ok=True)
            shutil.rmtree(dagster_home / "storage" / run.run_id, ignore_errors=True)
            gone += 1
    return gone


def prune_evaluations(instance: dg.DagsterInstance, *, now: datetime | None = None) -> int:
    """Takes away what checks said before their last evaluations, and before the worker's runs that are kept; how many
    it were. Dagster keeps them when their run goes."""
    connected = getattr(instance.event_log_storage, "index_connection", None)
    if connected is None:
        return 0  # a storage that keeps them elsewhere than in a database
    before = ((now or datetime.now(UTC)) - OF_WORKER).strftime("%Y-%m-%d %H:%M:%S")
    with connected() as connection:
        gone = connection.execute(
            sa.text(
                """
                delete from asset_check_executions
                where create_timestamp < :before and id in (
                    select id
                    from (
                        select id, row_number() over (partition by asset_key, check_name order by id desc) as place
                        from asset_check_executions
                    ) as evaluations
                    where place > :kept
                )
                """
            ),
            {"before": before, "kept": EVALUATIONS},
        )
        return int(gone.rowcount)


def pruning_sensor(worker: Callable[[], str | None], dagster_home: Path) -> dg.SensorDefinition:
    """Prunes where no worker does: on Kubernetes, and while there is none."""

    @dg.sensor(
        name="pruning",
        minimum_interval_seconds=int(_EVERY),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Takes away runs that nobody will look at again, and what they have written.",
    )
    def pruning(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if (name := worker()) is not None:
            return dg.SkipReason(f"the worker does it: {name}")
        runs = prune(context.instance, dagster_home, most=_IN_A_TICK)
        return dg.SkipReason(f"{runs} runs and {prune_evaluations(context.instance)} evaluations of checks are gone")

    return pruning
