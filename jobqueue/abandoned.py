"""Drops jobs whose caller has stopped waiting before they started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobqueue.errors import JobQueueError
from jobqueue.storage.base import Storage

logger = logging.getLogger("jobqueue")


class Abandoned:
    """Jobs of one producer that nobody waits for any more.

    Args:
        storage: Where they are.
        queue: In which queue.
        cancel: Cancels a job by its id, for a reason.
    """

    def __init__(
        self, storage: Storage, queue: str, cancel: Callable[[str, str], Awaitable[object]]
    ) -> None:
        self._storage = storage
        self._queue = queue
        self._cancel = cancel
        self._tasks: set[asyncio.Task[None]] = set()

    def drop(self, id: str) -> None:
        """Have a job cancelled if it has not started; its caller, who may be cancelled too, does
        not wait for that. Should it not succeed, the job expires."""
        task = asyncio.create_task(self._drop(id), name="jobqueue-drop")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for those on their way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _drop(self, id: str) -> None:
        try:
            (stored,) = await self._storage.get(self._queue, [id])
            if stored is not None and not stored.started_ms:
                await self._cancel(id, "its caller stopped waiting")
        except JobQueueError as error:
            logger.debug("job %r, which its caller left, was not cancelled: %s", id, error)
