"""Runs one step again and again, through every outage of the storage."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from jobqueue.backoff import Outage
from jobqueue.errors import StorageError

logger = logging.getLogger("jobqueue")


class Periodic:
    """A step that is taken at intervals until it is stopped.

    Args:
        name: For logs and the task's name.
        step: Does the work; returns the seconds until it wants to be called again.
    """

    def __init__(self, name: str, step: Callable[[], Awaitable[float]]) -> None:
        self._name = name
        self._step = step
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"jobqueue-{self._name}")

    async def stop(self) -> None:
        """Stop, and wait until the step under way is over. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        outage = Outage()
        while True:
            try:
                delay = await self._step()
                outage.over()
            except StorageError as error:
                if outage.since is None:
                    logger.warning("%s: cannot work now, trying again: %s", self._name, error)
                delay = outage.failed()
            except Exception:
                logger.exception("%s: unexpected error", self._name)
                delay = outage.failed()
            # Many workers do the same: let them not all come at once.
            await asyncio.sleep(delay * random.uniform(0.8, 1.0))
