"""Keeps leases alive from a thread of its own, so that a handler which blocks the event loop does
not lose its job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from jobqueue.backoff import Outage
from jobqueue.errors import JobQueueError
from jobqueue.storage.base import Storage
from jobqueue.storage.types import MAX_BATCH, HeartbeatAnswer, Held

logger = logging.getLogger("jobqueue")

BEATS_PER_LEASE: Final = 3


class LeaseKeeper:
    """Sends heartbeats over a connection of its own.

    Args:
        storage: Where the leases are; a twin of it is opened in the thread.
        queue: Which queue.
        worker: Whose leases.
        lease_ms: How far each heartbeat extends them.
        held: What to extend; called in the thread.
        tell: Called on the loop that started the keeper, with each answer that names a job, and
            the leases that were asked for.
    """

    def __init__(
        self,
        storage: Storage,
        queue: str,
        worker: str,
        lease_ms: int,
        held: Callable[[], list[Held]],
        tell: Callable[[Sequence[Held], HeartbeatAnswer], None],
    ) -> None:
        self._storage = storage
        self._queue = queue
        self._worker = worker
        self._lease_ms = lease_ms
        self._held = held
        self._tell = tell
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._stopping = False
        self._wake: Callable[[], object] | None = None
        self.outage = Outage()

    def start(self) -> None:
        """Start the thread."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._ended, self._stopping, self._wake = ended, False, None

        def has_ended() -> None:
            if not ended.done():
                ended.set_result(None)

        def run() -> None:
            try:
                asyncio.run(self._keep(loop))
            finally:
                with contextlib.suppress(RuntimeError):  # nobody is left to be told
                    loop.call_soon_threadsafe(has_ended)

        self._thread = threading.Thread(target=run, name="jobqueue-leases", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread and wait for its end. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None or self._ended is None:
            return
        # In this order, and read by the thread in the other one: it is woken, or never sleeps.
        self._stopping = True
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended by itself
                self._wake()
        await self._ended
        thread.join()

    async def _keep(self, caller: asyncio.AbstractEventLoop) -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(stopped.set)
        if self._stopping:
            return
        beating = asyncio.create_task(self._beat_for_ever(caller))
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait([beating, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in (beating, waiting):
            task.cancel()
        await asyncio.wait([beating, waiting])

    async def _beat_for_ever(self, caller: asyncio.AbstractEventLoop) -> None:
        storage = self._storage.twin()
        interval = self._lease_ms / 1000 / BEATS_PER_LEASE
        outage = self.outage
        is_open = False
        try:
            # A loop that has ended without a stop works on nothing any more.
            while not caller.is_closed():
                try:
                    if not is_open:
                        await storage.open()
                        is_open = True
                    await self._beat(storage, caller)
                except Exception as error:
                    if outage.since is None:
                        unexpected = None if isinstance(error, JobQueueError) else error
                        logger.warning(
                            "heartbeat of %r failed: %s", self._queue, error, exc_info=unexpected
                        )
                    await asyncio.sleep(min(outage.failed(), interval))
                    continue
                outage.over()
                await asyncio.sleep(interval)
        finally:
            if is_open:
                await storage.close()

    async def _beat(self, storage: Storage, caller: asyncio.AbstractEventLoop) -> None:
        remaining = iter(self._held())
        batch = list(islice(remaining, MAX_BATCH))
        while True:
            answer = await storage.heartbeat(self._queue, self._worker, batch, self._lease_ms)
            if answer.lost or answer.cancel_requested:
                with contextlib.suppress(RuntimeError):  # the consumer's loop has ended
                    caller.call_soon_threadsafe(self._tell, batch, answer)
            batch = list(islice(remaining, MAX_BATCH))
            if not batch:
                return
