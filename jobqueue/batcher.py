"""Gathers single requests into batches: what arrives while one batch is under way forms the next.

A lone request goes at once; under load one call carries hundreds. No timer is involved, so nothing
waits for company.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024


def batches(
    items: Iterable[T],
    size_of: Callable[[T], int],
    max_count: int,
    max_bytes: int = MAX_BATCH_BYTES,
) -> Iterator[list[T]]:
    """Cut items into lists of at most ``max_count``, and of about ``max_bytes``, in order."""
    batch: list[T] = []
    size = 0
    for item in items:
        item_size = size_of(item)
        if batch and (len(batch) >= max_count or size + item_size > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item_size
    if batch:
        yield batch


class Batcher(Generic[T, R]):
    """Sends items in batches, one batch at a time, and hands each caller its own answer.

    Args:
        send: Sends a batch and returns an answer for each item, in order. What it raises, every
            caller of that batch gets.
        size_of: Bytes of an item.
        max_count: Items in one batch at most.
    """

    def __init__(
        self,
        send: Callable[[list[T]], Awaitable[list[R]]],
        size_of: Callable[[T], int],
        max_count: int,
    ) -> None:
        self._send = send
        self._size_of = size_of
        self._max_count = max_count
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Items that wait to be sent."""
        return len(self._waiting)

    def submit(self, item: T) -> asyncio.Future[R]:
        """Add an item; the future gets its answer. Cancelled in time, the item is not sent."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="jobqueue-batcher")
        return future

    async def flushed(self) -> None:
        """Wait until everything submitted so far has its answer."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def abandon(self) -> None:
        """Stop sending; whoever waits is cancelled."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            self._task = None  # a task that never began has not said so itself
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                if batch:
                    await self._send_batch(batch)
        finally:
            self._task = None

    def _next_batch(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        size = 0
        while self._waiting and len(batch) < self._max_count and size < MAX_BATCH_BYTES:
            item, future = self._waiting.popleft()
            if not future.cancelled():
                batch.append((item, future))
                size += self._size_of(item)
        return batch

    async def _send_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
            answered = list(zip(batch, answers, strict=True))
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
                    # Not everybody who submits stays to hear of it.
                    future.exception()
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), answer in answered:
            if not future.done():
                future.set_result(answer)
