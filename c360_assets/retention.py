"""Retention: runs that nobody will look at again, and what they have written.

Belongs here: which runs go, and all that goes with them. A worker makes thousands of runs a day, each with an event log
of its own; what an asset was made of last stays known without them.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

BY_WORKER = {"c360/by": "worker"}
# How long runs are kept: the worker's, which say little one by one, and all others.
OF_WORKER, OF_OTHERS = timedelta(days=1), timedelta(days=30)
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def prune(instance: dg.DagsterInstance, dagster_home: Path, *, most: int = 200, now: datetime | None = None) -> int:
    """Takes away at most so many runs that are finished and old, the oldest first; how many it were."""
    now, gone = now or datetime.now(UTC), 0
    for kept, tags in ((OF_WORKER, BY_WORKER), (OF_OTHERS, None)):
        old = dg.RunsFilter(created_before=now - kept, tags=tags, statuses=_FINISHED)
        for run in instance.get_runs(old, limit=most - gone, ascending=True) if most > gone else ():
            instance.delete_run(run.run_id)
            shutil.rmtree(dagster_home / "storage" / run.run_id, ignore_errors=True)
            gone += 1
    return gone
