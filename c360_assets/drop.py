"""Drop folder: files that others lay down are landed and moved aside, each when it is whole.

Belongs here: telling whether a file is still written to, and the order of things: put, confirm, move. What is moved is
on S3; what died in between is found in the folder again and put again, which changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, LandingError, may_pass

LANDED = "landed"
# Names that programs give to what they are still writing.
_UNFINISHED = (".part", ".partial", ".tmp", ".filepart", ".crdownload", ".swp")


class DropFolder:
    """One folder of one feed; `settle`: seconds for which a file has to have stayed as it is."""

    def __init__(
        self, folder: Path, bucket: Bucket, feed: Feed, *, settle: float = 2.0, say: Callable[[str], None]
    ) -> None:
        self._folder, self._bucket, self._feed = folder, bucket, feed
        self._settle, self._say = settle, say
        # {file: (size, time of change), since when it is so}
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def watch(self, stop: Callable[[], bool]) -> Iterator[tuple[str, str, str]]:
        """Key, etag and what became of each file, as it is landed; until `stop`."""
        while not stop():
            for path in self._settled():
                landed = self._land(path)
                if landed is not None:
                    yield landed
            time.sleep(min(0.5, self._settle))

    def _settled(self) -> list[Path]:
        """Files that nobody has written to for a while, the oldest first."""
        now, there = time.monotonic(), {}
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".") or path.suffix.lower() in _UNFINISHED or not path.is_file():
                continue
            state = _state(path)
            if state is None:
                continue
            before = self._seen.get(path)
            there[path] = before if before is not None and before[0] == state else (state, now)
        self._seen = there
        return sorted(
            (p for p, (_, since) in there.items() if now - since >= self._settle), key=lambda p: there[p][0][1]
        )

    def _land(self, path: Path) -> tuple[str, str, str] | None:
        """None where it is to be tried again: S3 does not answer, or the file has changed under our hands."""
        state = self._seen[path][0]
        try:
            landed = self._bucket.put(self._feed, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say(f"{path.name} waits: it cannot be read: {error.strerror}")
            return None
        except (BotoCoreError, ClientError, LandingError) as error:
            if not may_pass(error):
                raise
            self._say(f"{path.name} waits: {error}")
            return None
        try:
            if _state(path) != state or not self._move(path, state):
                return None
        except OSError as error:
            self._say(f"{path.name} is landed, and cannot be moved aside: {error.strerror}")
            return None
        del self._seen[path]
        return landed

    def _move(self, path: Path, state: tuple[int, int]) -> bool:
        """False, and back where it was, if somebody wrote to it after the last look at it."""
        aside = self._folder / LANDED
        aside.mkdir(exist_ok=True)
        target = aside / path.name
        number = 1
        while target.exists():
            number += 1
            target = aside / f"{path.stem}.{number}{path.suffix}"
        path.rename(target)
        if _state(target) == state or path.exists():
            return True
        target.rename(path)
        return False


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None where it is gone."""
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return told.st_size, told.st_mtime_ns
