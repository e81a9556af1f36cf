"""Parts: the processes that run beside one another under `c360 up`, and what becomes of one that ends.

Belongs here: starting, watching, starting again, stopping. Knows nothing of what they do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c360_assets import local

# Seconds before a part is started again, doubled each time it ends within a minute.
_PAUSE, _LONGEST, _SOUND = 1.0, 60.0, 60.0


@dataclass
class _Part:
    name: str
    command: Sequence[str | Path]
    more: dict[str, Any]
    again: bool
    may_end: bool
    sound_after: float
    process: subprocess.Popen[bytes] = field(init=False)
    began: float = 0.0
    pause: float = _PAUSE
    due: float | None = None
    was_sound: bool = False

    def start(self) -> None:
        self.began, self.due = time.monotonic(), None
        self.process = subprocess.Popen(self.command, start_new_session=True, **self.more)


class Parts:
    """Processes by name, each the leader of a group of its own."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._parts: list[_Part] = []

    def add(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        again: bool = False,
        sound_after: float = 0.0,
        may_end: bool = False,
    ) -> None:
        """Starts it. `again`: it is started anew when it ends, unless it never lived for `sound_after` seconds.
        `may_end`: it may, having done all there was to do."""
        more: dict[str, Any] = {"cwd": cwd, "env": os.environ | dict(environment or {})}
        part = _Part(name, command, more, again, may_end, sound_after)
        part.start()
        self._parts.append(part)

    def watch(self, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Waits until a part has ended for good, and names it; does something else `meanwhile`, again and again."""
        while True:
            meanwhile()
            for part in self._parts:
                if self._has_stopped(part):
                    return part.name
            time.sleep(0.5)

    def _has_stopped(self, part: _Part) -> bool:
        code, now = part.process.poll(), time.monotonic()
        if code is None:
            return False
        part.was_sound |= (part.due or now) - part.began >= part.sound_after
        if part.again and part.was_sound:
            if part.due is None:
                # What it has started itself may still be there.
                local.stop(part.process)
                part.pause = _PAUSE if now - part.began > _SOUND else min(2 * part.pause, _LONGEST)
                part.due = now + part.pause
                self._say(f"{part.name} has ended with {code}; again in {part.pause:.0f} s")
            elif now >= part.due:
                part.start()
            return False
        return not (part.may_end and code == 0)

    def stop(self) -> None:
        """The last that was started first."""
        for part in reversed(self._parts):
            local.stop(part.process, patience=20, ask=signal.SIGINT)
