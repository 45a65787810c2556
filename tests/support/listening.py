"""Hearing what a storage publishes, so that a test can also tell what it did not publish."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from jobqueue.storage.base import Storage
from jobqueue.storage.types import EVENTS, Message, replies
from tests.support.jobs import HOUR, QUEUE, cancel, enqueue, new_job
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


class Complete(Inbox):
    """An inbox that knows when everything so far has arrived.

    Args:
        mark: Makes one more message arrive, and gives the id that it carries.
    """

    def __init__(self, mark: Callable[[], Awaitable[str]]) -> None:
        super().__init__()
        self._mark = mark

    async def all(self) -> list[Any]:
        """Every message since the last call, and so none that is not among them."""
        last = await self._mark()
        await wait_until(
            lambda: any(message.id == last for message in self.messages),
            what=f"the message of {last} behind {self.messages}",
        )
        messages, self.messages = self.messages, []
        return [message for message in messages if message.id != last]


@asynccontextmanager
async def listening_to_events(storage: Storage, queue: str = QUEUE) -> AsyncIterator[Complete]:
    """Listen to the events of a queue for the time of the block; each ``all()`` adds a job."""

    async def mark() -> str:
        job = new_job()
        await enqueue(storage, job, queue=queue)
        return job.id

    async with _listening(storage, EVENTS, queue, Complete(mark)) as inbox:
        yield inbox


@asynccontextmanager
async def listening_to_replies(
    storage: Storage, address: str, queue: str = QUEUE
) -> AsyncIterator[Complete]:
    """Listen to the replies for an address for the time of the block; each ``all()`` adds a job."""

    async def mark() -> str:
        job = new_job(delay_ms=HOUR, reply_to=address)
        await enqueue(storage, job, queue=queue)
        await cancel(storage, job.id, queue=queue)
        return job.id

    async with _listening(storage, replies(address), queue, Complete(mark)) as inbox:
        yield inbox


@asynccontextmanager
async def listening(storage: Storage, topic: str, queue: str = QUEUE) -> AsyncIterator[Inbox]:
    """Listen to a topic for the time of the block."""
    async with _listening(storage, topic, queue, Inbox()) as inbox:
        yield inbox


_Inbox = TypeVar("_Inbox", bound=Inbox)


@asynccontextmanager
async def _listening(
    storage: Storage, topic: str, queue: str, inbox: _Inbox
) -> AsyncIterator[_Inbox]:
    subscription = await storage.listen(queue, topic, inbox)
    try:
        yield inbox
    finally:
        await subscription.close()
