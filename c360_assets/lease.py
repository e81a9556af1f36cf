"""Lease: which process is the worker of a home, and whether it is still at work.

Belongs here: the lock that ends with its process, and the beat by which others tell that it does something. Nothing is
right or wrong by it: two that work at once would wait for each other at the warehouse, and take nothing twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from c360_assets.processes import HOST, born, is_alive

# Seconds without a beat after which others do the work: more than the longest build takes. One that is killed is gone
# at once; this is for one that hangs.
SILENCE = 300.0


class LeaseTaken(RuntimeError):
    """This home has a worker already; the text names it."""


@contextmanager
def taken(home: Path) -> Iterator[None]:
    """While the body runs this process is the worker of the home.

    Raises:
        LeaseTaken: if another one is.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "worker.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeaseTaken(f"{home} has a worker: {holder(home) or 'one that is just starting'}") from None
        try:
            beat(home)
            yield
        finally:
            _note(home).unlink(missing_ok=True)


def beat(home: Path) -> None:
    """Says that the worker is at work."""
    me = os.getpid()
    fresh = _note(home).with_suffix(".new")
    fresh.write_text(json.dumps({"pid": me, "born": born(me), "host": HOST, "beat": time.time()}))
    fresh.rename(_note(home))


@contextmanager
def beating(home: Path) -> Iterator[None]:
    """While the body runs, which may take longer than a worker is waited for, the worker is said to be at work."""
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(SILENCE / 10):
            beat(home)

    beats = threading.Thread(target=go_on, daemon=True)
    beats.start()
    try:
        yield
    finally:
        done.set()
        beats.join()


def holder(home: Path, now: float | None = None) -> str | None:
    """The worker of the home in words; None where there is none, or it has not been heard of for a while."""
    try:
        noted = json.loads(_note(home).read_text())
        pid, birth, beaten = int(noted["pid"]), str(noted["born"]), float(noted["beat"])
        host = str(noted["host"])
    except (OSError, ValueError, KeyError):
        return None
    silent = (now or time.time()) - beaten
    # Of a process on another host there is only its beat.
    is_there = silent < SILENCE and (host != HOST or is_alive(pid, birth))
    return (f"process {pid}" + (f" on {host}" if host != HOST else "")) if is_there else None


def _note(home: Path) -> Path:
    return home / "worker.json"
