"""Hearing what a storage publishes, so that a test can also tell what it did not publish."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from jobqueue.ids import new_job_id
from jobqueue.storage.base import (
    CONTROL,
    EVENTS,
    Message,
    Reply,
    Storage,
    StorageEvent,
    replies,
)
from tests.support.jobs import QUEUE, cancel, enqueue, new_job
from tests.support.wait import wait_until


class Inbox:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.gaps = 0

    def __call__(self, messages: Sequence[Message] | None) -> None:
        if messages is None:
            self.gaps += 1
        else:
            self.messages.extend(messages)

    async def wait_for(self, count: int) -> list[Message]:
        """The messages, once there are at least ``count``."""
        await wait_until(
            lambda: len(self.messages) >= count, what=f"{count} messages in {self.messages}"
        )
        return self.messages


@asynccontextmanager
async def listening(storage: Storage, topic: str, queue: str = QUEUE) -> AsyncIterator[Inbox]:
    """Listen to a topic for the time of the block."""
    inbox = Inbox()
    subscription = await storage.listen(queue, topic, inbox)
    try:
        yield inbox
    finally:
        await subscription.close()


class Events(Inbox):
    """All events of a queue, and the way to know that no more come."""

    def __init__(self, storage: Storage, queue: str) -> None:
        super().__init__()
        self._storage = storage
        self._queue = queue

    async def all(self) -> list[StorageEvent]:
        """Every event so far. Stores one more job, whose event comes after all of them."""
        marker = new_job_id()
        await enqueue(self._storage, marker, queue=self._queue)
        await wait_until(lambda: any(getattr(m, "id", "") == marker for m in self.messages))
        events = [m for m in self.messages if isinstance(m, StorageEvent)]
        assert len(events) == len(self.messages), f"not only events: {self.messages}"
        self.messages = []
        return [event for event in events if event.id != marker]


@asynccontextmanager
async def listening_to_events(storage: Storage, queue: str = QUEUE) -> AsyncIterator[Events]:
    """Listen to the events of a queue for the time of the block."""
    events = Events(storage, queue)
    subscription = await storage.listen(queue, EVENTS, events)
    try:
        yield events
    finally:
        await subscription.close()


class Replies(Inbox):
    """All replies to an address, and the way to know that no more come."""

    def __init__(self, storage: Storage, address: str, queue: str) -> None:
        super().__init__()
        self._storage = storage
        self._address = address
        self._queue = queue

    async def all(self) -> list[Reply]:
        """Every reply so far. Cancels one more job, whose reply comes after all of them."""
        marker = new_job(delay_ms=3_600_000, reply_to=self._address)
        await enqueue(self._storage, marker, queue=self._queue)
        await cancel(self._storage, marker.id, queue=self._queue)
        await wait_until(lambda: any(getattr(m, "id", "") == marker.id for m in self.messages))
        found = [m for m in self.messages if isinstance(m, Reply)]
        assert len(found) == len(self.messages), f"not only replies: {self.messages}"
        self.messages = []
        return [reply for reply in found if reply.id != marker.id]


@asynccontextmanager
async def listening_to_replies(
    storage: Storage, address: str, queue: str = QUEUE
) -> AsyncIterator[Replies]:
    """Listen to the replies for an address for the time of the block."""
    inbox = Replies(storage, address, queue)
    subscription = await storage.listen(queue, replies(address), inbox)
    try:
        yield inbox
    finally:
        await subscription.close()


@asynccontextmanager
async def listening_to_control(storage: Storage, queue: str = QUEUE) -> AsyncIterator[Inbox]:
    """Listen to requests to stop for the time of the block."""
    async with listening(storage, CONTROL, queue) as inbox:
        yield inbox
