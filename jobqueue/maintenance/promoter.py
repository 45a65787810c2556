"""``Promoter``: makes scheduled and retrying jobs claimable when they are due."""

from __future__ import annotations

from typing import Final

from jobqueue.maintenance.periodic import Periodic
from jobqueue.storage.base import Storage
from jobqueue.storage.types import MAX_BATCH

LONGEST: Final = 1.0
"""Seconds between two looks at most: a job with an earlier due time may have come meanwhile."""


class Promoter:
    """Promotes due jobs. Claims do the same; this one counts when every worker is busy."""

    def __init__(self, storage: Storage, queue: str) -> None:
        self._storage = storage
        self._queue = queue
        self._periodic = Periodic(f"promoter-{queue}", self.run_once)

    def start(self) -> None:
        self._periodic.start()

    async def stop(self) -> None:
        await self._periodic.stop()

    async def run_once(self) -> float:
        """Promote what is due; seconds until the next look."""
        next_due_ms = await self._storage.promote(self._queue, MAX_BATCH)
        return LONGEST if next_due_ms is None else min(LONGEST, next_due_ms / 1000)
