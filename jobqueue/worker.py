"""``Worker``: one process's share of the work on one or several queues."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import anyio

from jobqueue.backoff import Outage
from jobqueue.consumer import Consumer
from jobqueue.errors import ConfigurationError, StorageUnavailable
from jobqueue.health import Health, HealthState
from jobqueue.ids import new_worker_id
from jobqueue.limiting import declare_limits
from jobqueue.maintenance import Promoter, Pruner, Reaper
from jobqueue.schedules import Scheduler
from jobqueue.undisturbed import undisturbed
from jobqueue.values import check_count

if TYPE_CHECKING:
    from jobqueue.queue import Queue

logger = logging.getLogger("jobqueue")

_LOOK_EVERY = 0.05
_QUIET_LOOKS = 2


class Worker:
    """Serves queues in this process: a consumer and the maintenance of each.

    An async context manager: it works inside the block and stops gracefully at its end. A storage
    that is away at the start is an error there; :meth:`run` waits for it. Once at work, a worker
    outlasts every outage.

    Args:
        queues: At least one. Each has slots and connections of its own, so that none waits for
            another.
        concurrency: Jobs at a time for each queue. Default: each queue's own.
    """

    def __init__(self, *queues: Queue, concurrency: int | None = None) -> None:
        if not queues:
            raise ConfigurationError("a worker needs at least one queue: Worker(queue)")
        if len({id(queue) for queue in queues}) < len(queues):
            raise ConfigurationError("a worker was given the same queue twice")
        if concurrency is not None:
            check_count(concurrency, "concurrency", maximum=100_000)
        self.queues = queues
        self.worker_ids: Final = [queue.worker_id or new_worker_id() for queue in queues]
        """The name of this worker in each queue."""
        self._concurrency = concurrency
        self._consumers: list[Consumer] = []
        self._stack: AsyncExitStack | None = None
        self._outage = Outage()

    @property
    def active_count(self) -> int:
        """Jobs that run here now."""
        return sum(consumer.active_count for consumer in self._consumers)

    def health(self) -> list[Health]:
        """What this worker does now, for each of its queues: for a health check.

        Costs nothing: it is what the worker knows already. An idle one notices within 15 s that its
        storage is gone without a word, a busy one within a third of its lease and 10 s.
        """
        if self._consumers:
            return [consumer.health for consumer in self._consumers]
        since = self._outage.began_at
        state = HealthState.STOPPED if since is None else HealthState.STORAGE_UNAVAILABLE
        return [
            Health(queue=queue.name, state=state, unavailable_since=since) for queue in self.queues
        ]

    async def __aenter__(self) -> Worker:
        await self.start()
        return self

    async def start(self) -> None:
        """Begin to work.

        Raises:
            ConfigurationError: A storage cannot work as it is set up.
            StorageUnavailable: A storage is away now.
        """
        stack = AsyncExitStack()
        try:
            await self._start(stack)
        except BaseException:
            self._consumers = []
            await undisturbed(stack.aclose())
            raise
        self._stack = stack

    async def start_when_available(self) -> None:
        """Begin to work, and wait as long as a storage is away.

        Raises:
            ConfigurationError: A storage cannot work as it is set up.
        """
        outage = self._outage
        try:
            while True:
                try:
                    await self.start()
                    return
                except StorageUnavailable as error:
                    if outage.since is None:
                        logger.warning("cannot start yet, trying again: %s", error)
                    await asyncio.sleep(outage.failed())
        finally:
            lasted = outage.over()
            if lasted is not None and self._stack is not None:
                logger.warning("started after %.1f s", lasted)

    async def _start(self, stack: AsyncExitStack) -> None:
        for queue in self.queues:
            # Handlers may use the queue too; what that opened, the worker closes.
            if not queue.producer.enter_loop():
                stack.push_async_callback(queue.close)
        for queue in self.queues:
            await declare_limits(queue.producer, queue.registry)
            await queue.schedules.upsert_declared()
            await _start_maintenance(queue, stack)
        self._consumers = [
            _consumer(queue, worker_id, self._concurrency)
            for queue, worker_id in zip(self.queues, self.worker_ids, strict=True)
        ]
        # All stop at the same time, so that a stop takes one grace period, not one a queue.
        stack.push_async_callback(self._stop_consumers)
        for consumer in self._consumers:
            await consumer.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop gracefully. Idempotent."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await undisturbed(stack.aclose())

    async def _stop_consumers(self) -> None:
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers))

    async def run(self) -> None:
        """Work until cancelled; then stop gracefully. Waits for a storage that is away."""
        await self.start_when_available()
        try:
            await anyio.sleep_forever()
        finally:
            await self.stop()

    async def run_until_empty(self) -> None:
        """Work until nothing is queued and nothing runs here; then stop.

        What is scheduled for later, or waits for its retry, stays for the next worker.
        """
        async with self:
            await self.wait_until_empty()

    async def wait_until_empty(self) -> None:
        """Wait, while working, until nothing is queued and nothing runs here.

        Goes on waiting while the storage is away. What is scheduled for later, or waits for its
        retry, is not waited for.
        """
        outage = Outage()
        quiet = 0
        # A job whose claim is on its way back is neither queued nor here, so one look is not
        # enough. And no event tells when other processes have emptied the queue.
        while quiet < _QUIET_LOOKS:
            delay = _LOOK_EVERY
            try:
                queued = await self._is_something_queued()
                outage.over()
                quiet = 0 if queued or self.active_count else quiet + 1
            except StorageUnavailable:
                quiet = 0
                delay = outage.failed()
            await asyncio.sleep(delay)

    async def _is_something_queued(self) -> bool:
        counts = [await queue.counts() for queue in self.queues]
        return any(count["queued"] for count in counts)


def _consumer(queue: Queue, worker_id: str, concurrency: int | None) -> Consumer:
    return Consumer(
        queue.storage,
        queue.registry,
        queue.name,
        serde=queue.serdes,
        hooks=queue.hooks,
        worker_id=worker_id,
        concurrency=concurrency,
    )


async def _start_maintenance(queue: Queue, stack: AsyncExitStack) -> None:
    if not queue.options.maintenance:
        return
    reaper = Reaper(queue.storage, queue.name, registry=queue.registry, hooks=queue.hooks)
    await stack.enter_async_context(reaper)
    for service in (
        Promoter(queue.storage, queue.name),
        Pruner(queue.storage, queue.name),
        Scheduler(queue.storage, queue.name, queue.options.result_ttl_ms),
    ):
        service.start()
        stack.push_async_callback(service.stop)
