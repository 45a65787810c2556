"""Settles outcomes: grouped, and held while the storage is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jobqueue.backoff import Outage
from jobqueue.batcher import Outbox
from jobqueue.errors import StorageError
from jobqueue.outcome import Outcome
from jobqueue.storage.base import Storage
from jobqueue.storage.types import MAX_BATCH, Claim, Offer, Settlement

logger = logging.getLogger("jobqueue")

MAX_HELD: Final = 1_000
"""Outcomes that may wait while their slots already run other jobs."""


@dataclass(slots=True)
class _Settling:
    settlement: Settlement
    heard: Callable[[bool], None]
    offer: Offer | None = None


class Settler:
    """The finishing side of one consumer.

    An outcome is never dropped because the storage is away: the same ``finish`` is tried until it
    is answered. What was settled too late is answered ``False``: another worker holds the job then.
    """

    def __init__(self, storage: Storage, queue: str, worker: str) -> None:
        self._storage = storage
        self._queue = queue
        self._worker = worker
        self._outbox = Outbox[_Settling](self._send, _size_of, MAX_BATCH)
        self._given_up = False
        self.outage = Outage()

    def settle(self, claim: Claim, outcome: Outcome, heard: Callable[[bool], None]) -> None:
        """Hand in an outcome; ``heard`` is told whether the lease still held. It must not raise.

        A callback, since a future for each job would cost it a turn of the loop.
        """
        self._outbox.put(_Settling(Settlement(claim.id, claim.fence, outcome), heard))

    async def settle_alone(
        self,
        claim: Claim,
        outcome: Outcome,
        heard: Callable[[bool], None],
        offer: Offer | None,
    ) -> None:
        """Settle in the caller's own task, which spares a lone job a turn of the loop.

        Cancelled, as by something that the handler left behind, it goes on in another task.
        """
        settling = _Settling(Settlement(claim.id, claim.fence, outcome), heard, offer)
        try:
            await self._outbox.alone(self._send([settling]))
        except asyncio.CancelledError:
            if not self._given_up:
                self._outbox.put(settling)
            raise

    @property
    def is_idle(self) -> bool:
        """Whether no outcome is on its way."""
        return self._outbox.is_idle

    @property
    def has_room(self) -> bool:
        """Whether an outcome that was handed in need not be waited for."""
        return len(self._outbox) < MAX_HELD

    async def flush(self, seconds: float) -> None:
        """Wait until all is settled, that many seconds at most; give up on the rest."""
        try:
            async with asyncio.timeout(seconds):
                await self._outbox.flushed()
        except TimeoutError:
            logger.warning("stopped with outcomes unsettled: their jobs will run again")
            self._given_up = True
            await self._outbox.abandon()

    async def _send(self, batch: list[_Settling]) -> None:
        offer = batch[0].offer if len(batch) == 1 else None
        answers = await self._finish([settling.settlement for settling in batch], offer)
        for settling, held in zip(batch, answers, strict=True):
            settling.heard(held)

    async def _finish(self, settlements: list[Settlement], offer: Offer | None) -> list[bool]:
        while True:
            try:
                answers = await self._storage.finish(self._queue, self._worker, settlements, offer)
            except StorageError as error:
                if self.outage.since is None:
                    logger.warning("cannot settle jobs of %r, trying again: %s", self._queue, error)
                await asyncio.sleep(self.outage.failed())
                continue
            lasted = self.outage.over()
            if lasted is not None:
                logger.warning("settling jobs of %r again after %.1f s", self._queue, lasted)
            return answers


def _size_of(settling: _Settling) -> int:
    return len(settling.settlement.outcome.value)
