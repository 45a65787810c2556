"""Claims that wait for work, and must be woken when there is some."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final

from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim
from tests.support.jobs import QUEUE, claim
from tests.support.wait import wait_until

BLOCK: Final = 20_000
"""How long the claims here would wait: far longer than any test lets them."""
SOON: Final = 5.0
"""Seconds within which a waiting claim must have been woken."""


class Waiting:
    """A claim that waits, and how long it took."""

    def __init__(self, task: asyncio.Task[list[Claim]]) -> None:
        self._task = task
        self._since = time.monotonic()

    def ended(self) -> bool:
        return self._task.done()

    async def claims(self) -> list[Claim]:
        """What it got; it must have been woken long before its time was over."""
        claims = await self._task
        assert time.monotonic() - self._since < SOON
        return claims


@asynccontextmanager
async def waiting(
    storage: Storage, count: int = 1, *, worker: str = "w1", queue: str = QUEUE
) -> AsyncIterator[Waiting]:
    """A claim that is in the midst of waiting, and is not left behind."""
    task = asyncio.create_task(claim(storage, count, worker=worker, block_ms=BLOCK, queue=queue))
    # There is no sign of a claim that waits; each test holds just as well if it does not yet.
    await asyncio.sleep(0.05)
    assert not task.done()
    try:
        yield Waiting(task)
    finally:
        await stop_waiting(storage, task, worker, queue)


async def stop_waiting(
    storage: Storage, task: Awaitable[list[Claim]], worker: str, queue: str
) -> None:
    future = asyncio.ensure_future(task)

    async def ended() -> bool:
        await storage.unblock(queue, worker)
        return future.done()

    await wait_until(ended)
