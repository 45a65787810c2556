"""``Pruner``: clears away what is left of jobs whose time to live is over."""

from __future__ import annotations

from typing import Final

from jobqueue.maintenance.periodic import Periodic
from jobqueue.storage.base import Storage

LIMIT: Final = 2_000
EVERY: Final = 1.0
"""Seconds between two looks when there is little to do."""
_AT_ONCE: Final = 0.01


class Pruner:
    """Prunes. Nobody ever sees an expired job; this gives its space back."""

    def __init__(self, storage: Storage, queue: str) -> None:
        self._storage = storage
        self._queue = queue
        self._periodic = Periodic(f"pruner-{queue}", self.run_once)

    def start(self) -> None:
        self._periodic.start()

    async def stop(self) -> None:
        await self._periodic.stop()

    async def run_once(self) -> float:
        """Prune some; seconds until the next look."""
        return _AT_ONCE if await self._storage.prune(self._queue, LIMIT) >= LIMIT else EVERY
