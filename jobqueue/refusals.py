"""Turns the refusal of a storage into the error that a producer gets."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final

from jobqueue.errors import NotAccepted, QueueDraining, QueueFull, StorageError
from jobqueue.flow import Refusal
from jobqueue.states import EnqueueStatus
from jobqueue.storage.base import Storage

RETRY_AFTER: Final = 1.0
"""Seconds, on average, after which a refused producer should try again."""
_LIMIT_HOLDS: Final = 1.0
"""Seconds for which the number in the error need not be asked for again."""


class Refusals:
    """Refusals of one queue."""

    def __init__(self, storage: Storage, queue: str) -> None:
        self._storage = storage
        self._queue = queue
        self._limit: int | None = None
        self._asked_at = float("-inf")

    async def error(self, status: Refusal | EnqueueStatus) -> NotAccepted:
        """The error for a refused job."""
        if status is Refusal.DRAINING:
            return QueueDraining(self._queue)
        now = asyncio.get_running_loop().time()
        if now >= self._asked_at + _LIMIT_HOLDS:
            # The job is refused, whether the storage can still say the number or not.
            with contextlib.suppress(StorageError):
                self._limit = (await self._storage.control(self._queue)).max_waiting or None
                self._asked_at = now
        return QueueFull(self._queue, self._limit, RETRY_AFTER * random.uniform(0.5, 1.5))
