"""Processes: which one runs a run, and is it still there.

Belongs here: the identity of a process (pid and birth, since pids are used again) as tags of a run, and what this
process is at and runs.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import psutil

PID_TAG, BORN_TAG, HOST_TAG = "c360/pid", "c360/pid_born", "c360/host"
# Containers have process numbers of their own, and share a home all the same.
HOST = socket.gethostname()
# Seconds for which something else is let in while a run is created: one that has not begun after three minutes is taken
# for dead by Dagster's daemon.
LET_IN = 30.0
# What Dagster says of a run before it begins, one after the other.
_PLANNED = (dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)

# A process runs one step of one run at a time.
_at_work: dict[str, str] = {}


def process_tags() -> dict[str, str]:
    """Run tags that name this process."""
    return {PID_TAG: str(os.getpid()), BORN_TAG: born(os.getpid()), HOST_TAG: HOST}


def run_here(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    *,
    config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    selection: Sequence[dg.AssetKey] | None = None,
    while_created: Callable[[], object] | None = None,
) -> dg.ExecuteInProcessResult:
    """The job in this process, of all its assets or a selection; of its failure the result tells. To create a run takes
    Dagster a second or two where the machine is busy: `while_created` is called again and again, before anything of the
    run has begun. What it raises is raised when the run is over, which would never end else."""
    run_id, began = str(uuid4()), time.monotonic()
    raised: list[Exception] = []

    if while_created:

        def heard(event: dg.EventLogEntry) -> None:
            is_planned = event.dagster_event and event.dagster_event.event_type in _PLANNED
            if is_planned and not raised and time.monotonic() - began < LET_IN:
                try:
                    while_created()
                except Exception as error:  # noqa: BLE001 - raised below
                    raised.append(error)

        instance.add_event_listener(run_id, heard)
    result = job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_id=run_id,
        tags={**process_tags(), **(tags or {})},
        run_config={"loggers": {"console": {}}, **(config or {})},
        asset_selection=selection,
    )
    for error in raised:
        raise error
    return result


def sign_run(context: dg.AssetExecutionContext) -> None:
    """Notes in the run which process runs it, so that a later one can tell when it is gone."""
    _at_work.update(run=context.run.run_id, asset=context.op_execution_context.op.name.replace("__", "/"))
    tags = process_tags()
    if any(context.run.tags.get(name) != value for name, value in tags.items() if name != BORN_TAG):
        context.instance.add_run_tags(context.run.run_id, tags)


def at_work() -> dict[str, str]:
    """Which run and asset this process is at; empty where it is at none."""
    return dict(_at_work)


def is_named_here(tags: Mapping[str, str]) -> bool:
    """Do the tags name a process of this host?"""
    return PID_TAG in tags and tags.get(HOST_TAG, HOST) == HOST


def is_dead(tags: Mapping[str, str]) -> bool:
    """Is the process gone that the tags name? Tags that name none, or one of another host, say nothing."""
    return is_named_here(tags) and not is_alive(int(tags[PID_TAG]), tags.get(BORN_TAG, ""))


def is_alive(pid: int, birth: str) -> bool:
    """Does the very process run that has this pid and was born so?"""
    return birth != "" and born(pid) == birth


def born(pid: int) -> str:
    """What tells the process from others that had its pid or will; empty if there is none, or a dead one that nobody
    has waited for. No clock has a say in it, where the system allows: one that is set would make others of them all."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "" if Path("/proc/self/stat").exists() else _born_by_the_clock(pid)
    state, ticks_since_boot = told[0], told[19]
    return "" if state in "ZX" else f"{_boot()}:{ticks_since_boot}"


@cache
def _boot() -> str:
    """Which time this is that the machine runs."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _born_by_the_clock(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(int(process.create_time()))
    except psutil.NoSuchProcess:
        return ""
