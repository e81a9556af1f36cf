"""Keeping: one connection over laps that follow one another. To open and close the warehouse takes a quarter of a lap.

Belongs here: how long. Others want it, and what was written is put into DuckDB's file when it is closed.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from c360_assets.warehouse import Warehouse

# Seconds for which a connection is kept if no lap is due, and in any case; for which it is kept unused; for which
# whoever waits for the warehouse is let in first.
KEPT, KEPT_ANYWAY, UNUSED, HAND_OVER = 10.0, 20.0, 1.0, 0.5
# Seconds between two closings that put together what laps brought in small parts, if no lap is due, and in any case.
MERGE, MERGE_ANYWAY = 120.0, 900.0


class Keeping:
    """A connection of this thread that is kept from lap to lap; closed when the body ends."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._kept = ExitStack()
        self._since: float | None = None
        self._used = 0.0
        self._merged_at = time.monotonic()

    def __enter__(self) -> Keeping:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def look(self, *, is_due: bool) -> None:
        """Between two laps: lets go where that has gone on for long, none comes, or somebody else waits; keeps a
        connection from here on where a lap `is_due`.

        Raises:
            WarehouseBusy: if it cannot be had.
        """
        now = time.monotonic()
        if is_due:
            self._used = now
        if self._since is not None:
            is_over = now - self._since > (KEPT_ANYWAY if is_due else KEPT) or now - self._used > UNUSED
            is_wanted = not is_over and self._warehouse.is_wanted()
            if is_over or is_wanted:
                if now - self._merged_at > (MERGE_ANYWAY if is_due or is_wanted else MERGE):
                    self._warehouse.merge_next()
                    self._merged_at = now
                self.let_go()
            if is_wanted:
                self._let_in()
        if is_due and self._since is None:
            self._kept.enter_context(self._warehouse.kept("laps of the worker"))
            self._since = now

    def let_go(self) -> None:
        self._kept.close()
        self._since = None

    def _let_in(self) -> None:
        """Who waits looks every tenth of a second."""
        until = time.monotonic() + HAND_OVER
        while self._warehouse.is_wanted() and time.monotonic() < until:
            time.sleep(0.02)
