"""Who is to be told: subscriptions and waiting claims, across the event loops of one process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from jobqueue.storage.types import Message, Sink


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # That loop is closed, and whoever waited on it is gone.
        return


class MemorySubscription:
    """One sink on one topic, called on the loop that subscribed."""

    def __init__(self, bus: Bus, topic: str, sink: Sink) -> None:
        self._bus = bus
        self._topic = topic
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        bus.sinks[topic].append(self)

    def deliver(self, messages: Sequence[Message]) -> None:
        _call_on(self._loop, lambda: self._sink(messages))

    async def close(self) -> None:
        sinks = self._bus.sinks[self._topic]
        if self in sinks:
            sinks.remove(self)
        if not sinks:
            del self._bus.sinks[self._topic]


class Waiter:
    """A claim that waits."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.unblocked = False
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        _call_on(self._loop, self._event.set)

    async def wait(self, seconds: float) -> None:
        """Wait for a wake or the time; also return at once if it was woken before."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()


class Bus:
    """The subscriptions and waiting claims of one queue. Used under the queue's lock."""

    def __init__(self) -> None:
        self.sinks: defaultdict[str, list[MemorySubscription]] = defaultdict(list)
        self.waiters: set[Waiter] = set()
        self._pending: defaultdict[str, list[Message]] = defaultdict(list)

    def publish(self, topic: str, message: Message) -> None:
        """Add a message to what :meth:`flush` delivers."""
        if topic in self.sinks:
            self._pending[topic].append(message)

    def flush(self) -> None:
        """Deliver what was published, in order."""
        for topic, messages in self._pending.items():
            for subscription in self.sinks[topic]:
                subscription.deliver(messages)
        if self._pending:
            self._pending = defaultdict(list)

    def wake_all(self) -> None:
        for waiter in self.waiters:
            waiter.wake()
