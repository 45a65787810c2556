"""``queue.events()``: what happens on all workers, as an async iterator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from jobqueue.job import Event
from jobqueue.storage.base import Storage
from jobqueue.storage.types import EVENTS, Message, StorageEvent, Subscription
from jobqueue.views import event_of

logger = logging.getLogger("jobqueue")

BUFFER: Final = 10_000
"""Events kept for a reader that is slower than they come; then the oldest are dropped."""


class EventStream:
    """Iterates over events as they come, until it or its queue is closed.

    Listening begins with the first step, or, to be sure that nothing is missed in between, with
    ``async with queue.events() as events:``, which also stops it.

    Args:
        open_storage: Gives the queue's storage, open.
        queue: The queue's name.
    """

    def __init__(self, open_storage: Callable[[], Awaitable[Storage]], queue: str) -> None:
        self._open_storage = open_storage
        self._queue = queue
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(BUFFER)
        self._subscription: Subscription | None = None
        self._ended = False
        self._dropped = 0

    async def __aenter__(self) -> EventStream:
        if self._subscription is None and not self._ended:
            storage = await self._open_storage()
            self._subscription = await storage.listen(self._queue, EVENTS, self._hear)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening; iterating ends after what has come so far. Idempotent."""
        if not self._ended:
            self._ended = True
            self._put(None)
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.close()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        if self._subscription is None:
            await self.__aenter__()
        event = await self._events.get()
        if self._dropped and self._events.empty():
            logger.warning("the reader of events() keeps up again; %d were dropped", self._dropped)
            self._dropped = 0
        if event is None:
            self._put(None)  # for the next step, or another task that iterates
            raise StopAsyncIteration
        return event

    def _hear(self, messages: Sequence[Message] | None) -> None:
        for message in messages or ():
            if isinstance(message, StorageEvent) and not self._ended:
                self._put(event_of(message, self._queue))

    def _put(self, event: Event | None) -> None:
        if self._events.full():
            self._events.get_nowait()
            if not self._dropped:
                logger.warning("events are dropped: the reader of events() is too slow")
            self._dropped += 1
        self._events.put_nowait(event)
