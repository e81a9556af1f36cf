"""Processes: which one runs a run, and is it still there.

Belongs here: the identity of a process (pid and start time, since pids are used again) as tags of a run, and what this
process is at.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import dagster as dg
import psutil

PID_TAG, BORN_TAG, HOST_TAG = "c360/pid", "c360/pid_started", "c360/host"
# Containers have process numbers of their own, and share a home all the same.
HOST = socket.gethostname()

# A process runs one step of one run at a time.
_at_work: dict[str, str] = {}


def process_tags() -> dict[str, str]:
    """Run tags that name this process."""
    return {PID_TAG: str(os.getpid()), BORN_TAG: str(started_at(os.getpid())), HOST_TAG: HOST}


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
    return is_named_here(tags) and not is_alive(int(tags[PID_TAG]), float(tags[BORN_TAG]))


def is_alive(pid: int, started: float) -> bool:
    """Does the very process run that had this pid and started then?"""
    return abs(started_at(pid) - started) < 1.0


def started_at(pid: int) -> float:
    """Seconds since the epoch; 0 if there is no such process, or a dead one that nobody has waited for."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return 0.0
