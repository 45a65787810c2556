"""Gathers single items into batches: what arrives while batches are under way forms the next.

A lone request goes at once; under load one call carries hundreds. No timer is involved, so nothing
waits for company.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
_SWEEP_AT: Final = 64
"""So many must have given up before it is worth a look at all."""


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


async def send_all(
    send: Callable[[list[T]], Coroutine[Any, Any, list[R]]],
    items: Iterable[T],
    size_of: Callable[[T], int],
    max_count: int,
    in_flight: int,
) -> list[R]:
    """Send items that are all there, in order, and return the answer for each.

    Args:
        send: Sends a batch. What it raises ends the others.
        items: What is sent.
        size_of: Bytes of an item.
        max_count: Items in one batch at most.
        in_flight: Batches on their way at the same time, at most.
    """
    answers: list[R] = []
    under_way: deque[asyncio.Task[list[R]]] = deque()
    try:
        for batch in batches(items, size_of, max_count):
            under_way.append(asyncio.create_task(send(batch)))
            if len(under_way) == in_flight:
                answers += await under_way.popleft()
        while under_way:
            answers += await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    return answers


class Outbox(Generic[T]):
    """Items that wait to be sent in batches.

    Args:
        send: Sends a batch. What it raises is lost: it is the sender's to say what becomes of its
            items.
        size_of: Bytes of an item.
        max_count: Items in one batch at most.
        in_flight: Batches on their way at the same time, at most. With two, the other side has
            something to do while this one handles its answers.
    """

    def __init__(
        self,
        send: Callable[[list[T]], Awaitable[None]],
        size_of: Callable[[T], int],
        max_count: int,
        in_flight: int = 1,
    ) -> None:
        self._send = send
        self._size_of = size_of
        self._max_count = max_count
        self._in_flight = in_flight
        self._waiting: deque[T] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._starting = False
        self._has_lone = False
        self._lone_is_sent: asyncio.Event | None = None
        """Made by those who wait for that."""

    def __len__(self) -> int:
        """Items that wait to be sent."""
        return len(self._waiting)

    def put(self, item: T) -> None:
        """Add an item; it is sent with what else is added in this turn of the loop."""
        self._waiting.append(item)
        self._start()

    async def alone(self, sending: Awaitable[R]) -> R:
        """Await in this task what sends a lone item, as if it were a batch: that spares the turns
        of the loop which another task takes. See :attr:`is_idle`."""
        self._has_lone = True
        try:
            return await sending
        finally:
            self._has_lone = False
            if self._lone_is_sent is not None:
                self._lone_is_sent.set()
                self._lone_is_sent = None
            if self._waiting:
                self._start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not (self._has_lone or self._under_way or self._waiting)

    def drop(self, is_unwanted: Callable[[T], bool]) -> None:
        """Take items that nobody wants any more out of those that wait."""
        self._waiting = deque(item for item in self._waiting if not is_unwanted(item))

    async def flushed(self) -> None:
        """Wait until everything that was put in so far has been sent."""
        while self._has_lone or self._under_way:
            if self._under_way:
                await asyncio.wait(self._under_way)
            else:
                self._lone_is_sent = self._lone_is_sent or asyncio.Event()
                await self._lone_is_sent.wait()

    async def abandon(self) -> None:
        """Stop sending, and drop what waits."""
        under_way, self._under_way = self._under_way, set()
        for each in under_way:
            each.cancel()
        if under_way:
            await asyncio.wait(under_way)
        self._starting = False  # a task that never began has not said so itself
        self._waiting.clear()

    def _start(self) -> None:
        """Have one more batch sent, if there may be one."""
        if self._starting or len(self._under_way) + self._has_lone >= self._in_flight:
            return
        self._starting = True
        self._under_way.add(asyncio.create_task(self._drain(), name="jobqueue-outbox"))

    async def _drain(self) -> None:
        self._starting = False
        try:
            while self._waiting:
                batch = self._next_batch()
                if self._waiting:
                    self._start()
                await self._send(batch)
        finally:
            # Here, not when the task is done: what is put in before that must start another one.
            self._under_way.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _next_batch(self) -> list[T]:
        batch: list[T] = []
        size = 0
        while self._waiting and len(batch) < self._max_count and size < MAX_BATCH_BYTES:
            item = self._waiting.popleft()
            batch.append(item)
            size += self._size_of(item)
        return batch


class Batcher(Generic[T, R]):
    """Sends items in batches, and hands each caller its own answer.

    Args:
        send: Sends a batch and returns an answer for each item, in order. What it raises, every
            caller of that batch gets.
        size_of: Bytes of an item.
        max_count: Items in one batch at most.
        in_flight: Batches on their way at the same time, at most.
    """

    def __init__(
        self,
        send: Callable[[list[T]], Awaitable[list[R]]],
        size_of: Callable[[T], int],
        max_count: int,
        in_flight: int = 1,
    ) -> None:
        self._send = send
        self._outbox = Outbox[tuple[T, asyncio.Future[R]]](
            self._send_batch, lambda entry: size_of(entry[0]), max_count, in_flight
        )
        self._gave_up = 0

    def __len__(self) -> int:
        """Items that wait to be sent."""
        return len(self._outbox)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._outbox.is_idle

    def submit(self, item: T) -> asyncio.Future[R]:
        """Add an item; the future gets its answer. Cancelled in time, the item is not sent."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._outbox.put((item, future))
        return future

    async def ask(self, item: T) -> R:
        """Send an item and wait for its answer: alone and at once if nothing else is under way.

        Cancelled, it lets go of the item: while the other side does not answer, what is kept is
        bounded by those who wait, not by how many have come and gone.
        """
        if not self._outbox.is_idle:
            try:
                return await self.submit(item)
            except asyncio.CancelledError:
                self._let_go()
                raise
        (answer,) = await self._outbox.alone(self._send([item]))
        return answer

    def _let_go(self) -> None:
        """Forget whom nobody waits for, when they may be as many as the others."""
        self._gave_up += 1
        if self._gave_up >= _SWEEP_AT and 2 * self._gave_up >= len(self._outbox):
            self._gave_up = 0
            self._outbox.drop(lambda entry: entry[1].cancelled())

    async def flushed(self) -> None:
        """Wait until everything submitted so far has its answer."""
        await self._outbox.flushed()

    async def _send_batch(self, entries: list[tuple[T, asyncio.Future[R]]]) -> None:
        batch = [entry for entry in entries if not entry[1].cancelled()]
        if not batch:
            return
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
