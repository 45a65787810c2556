"""An idle worker offers to take one job at once: the storage may then hand it the next one itself,
which spares that job a claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from jobqueue.backoff import Outage
from jobqueue.consumer.active import Slots
from jobqueue.errors import StorageError
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim, Message, Offer, Subscription, handed

logger = logging.getLogger("jobqueue")

OFFER_FOR_MS: Final = 5_000
"""As long as one wait of a claim: for that long the storage may take a worker that the network has
cut off for an idle one."""


class Offers:
    """What one consumer offers, and the jobs that it is handed.

    Args:
        storage: Where the jobs are.
        queue: Which queue.
        worker: In whose name.
        lease_ms: The lease of a job that is handed over.
        slots: What is free; each job takes a slot, whoever runs it gives it back.
        start: Called with each job.
        refuse: Called with each job for which there is no slot, or that comes while the consumer is
            stopping.
    """

    def __init__(
        self,
        storage: Storage,
        queue: str,
        worker: str,
        lease_ms: int,
        slots: Slots,
        start: Callable[[Claim], None],
        refuse: Callable[[Claim], None],
    ) -> None:
        self._storage = storage
        self._queue = queue
        self._worker = worker
        self._offer = Offer(OFFER_FOR_MS, lease_ms)
        self._slots = slots
        self._start = start
        self._refuse = refuse
        self._subscription: Subscription | None = None
        self._stopping = False
        self._last_fence = 0
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            StorageUnavailable: That is not possible now.
        """
        self._stopping = False
        topic = handed(self._worker)
        self._subscription = await self._storage.listen(self._queue, topic, self._hear)

    @property
    def current(self) -> Offer | None:
        """What to offer, now that nothing runs: a slot that no claim wants."""
        return self._offer if self._slots.has_spare and not self._stopping else None

    def halt(self) -> None:
        """From now on, start nothing: a job that is handed over is refused."""
        self._stopping = True

    async def withdraw(self) -> None:
        """Offer nothing any more, and take what was handed over without being heard of.

        Raises:
            StorageError: Such a job waits for its lease to end.
        """
        claim = await self._storage.withdraw(self._queue, self._worker)
        if claim is not None:
            self._take(claim)

    async def close(self) -> None:
        """Stop listening."""
        if self._looking is not None:
            self._looking.cancel()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.close()

    def _hear(self, messages: Sequence[Message] | None) -> None:
        if messages is None:
            if self._looking is not None:
                self._looking.cancel()  # it may have looked too early
            self._looking = asyncio.create_task(self._look(), name="jobqueue-handed")
            return
        for message in messages:
            if isinstance(message, Claim):
                self._take(message)

    async def _look(self) -> None:
        """Ask until there is an answer: a server that has just come back may be loading still."""
        outage = Outage()
        while True:
            try:
                return await self.withdraw()
            except StorageError as error:
                logger.debug("could not ask what was handed over, trying again: %s", error)
                await asyncio.sleep(outage.failed())

    def _take(self, claim: Claim) -> None:
        if claim.fence <= self._last_fence:
            return  # heard before
        self._last_fence = claim.fence
        if self._stopping or not self._slots.free:
            self._refuse(claim)
        else:
            self._slots.take()
            self._start(claim)
