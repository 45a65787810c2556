"""Claims jobs while slots are free, and starts a task for each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from jobqueue.backoff import Outage
from jobqueue.consumer.active import Slots
from jobqueue.errors import StorageError
from jobqueue.ids import new_token
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim, ClaimRequest

logger = logging.getLogger("jobqueue")

BLOCK_MS: Final = 5_000
"""Longest wait of one claim, which is also a sign of life."""
_UNBLOCK_EVERY: Final = 0.02


class Claimer:
    """The claiming loop of one consumer.

    Args:
        storage: Where to claim.
        queue: Which queue.
        worker: In whose name.
        lease_ms: The lease of each claim.
        slots: What is free; the claimer takes a slot for each job, whoever runs it gives it back.
        start: Called with each claimed job.
        refuse: Called with each job that was claimed while the consumer was already stopping.
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
        self._lease_ms = lease_ms
        self._slots = slots
        self._start = start
        self._refuse = refuse
        self._task: asyncio.Task[None] | None = None
        self._claiming = False
        self._stopping = False
        self.outage = Outage()

    def start(self) -> None:
        """Begin to claim."""
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name=f"jobqueue-claim-{self._queue}")

    def halt(self) -> None:
        """From now on, start nothing: what a claim under way brings is refused."""
        self._stopping = True

    async def stop(self, seconds: float) -> None:
        """Stop claiming.

        A claim under way is not cancelled: it is made to return, and what it brought is refused.
        Only a storage that does not answer for ``seconds`` is left alone; should it have handed out
        jobs, their leases run out.
        """
        self.halt()
        give_up_at = time.monotonic() + seconds
        task, self._task = self._task, None
        while task is not None and not task.done():
            if time.monotonic() > give_up_at:
                logger.warning("the storage of %r does not answer; left it", self._queue)
                task.cancel()
            elif self._claiming:
                try:
                    async with asyncio.timeout(max(0, give_up_at - time.monotonic())):
                        await self._storage.unblock(self._queue, self._worker)
                except (StorageError, TimeoutError) as error:
                    logger.debug("could not unblock a claim: %s", error)
            else:
                task.cancel()
            await asyncio.wait([task], timeout=_UNBLOCK_EVERY)

    async def _run(self) -> None:
        token, is_repeat = new_token(), False
        while not self._stopping:
            request = ClaimRequest(
                worker=self._worker,
                count=await self._slots.reserve(),
                token=token,
                lease_ms=self._lease_ms,
                block_ms=0 if is_repeat else BLOCK_MS,
            )
            claims = None
            try:
                claims = await self._claim(request)
            finally:
                self._slots.use_reserved(0 if self._stopping else len(claims or ()))
            if claims is None:
                is_repeat = True  # with the same token: the answer may be all that was lost
                continue
            # An empty answer ends a claim too: what it had brought may have been taken over
            # meanwhile, and its token would never bring anything else.
            token, is_repeat = new_token(), False
            if claims:
                self._take(claims)
                if len(claims) == 1:
                    # A lone job comes first: in this turn of the loop it starts, and the outcome of
                    # a short one leaves.
                    await asyncio.sleep(0)

    async def _claim(self, request: ClaimRequest) -> list[Claim] | None:
        self._claiming = True
        try:
            claims = await self._storage.claim(self._queue, request)
        except Exception as error:
            self._claiming = False
            await self._wait_out(error)
            return None
        finally:
            self._claiming = False
        lasted = self.outage.over()
        if lasted is not None:
            logger.warning("claiming from %r again after %.1f s", self._queue, lasted)
        return claims

    async def _wait_out(self, error: Exception) -> None:
        if self.outage.since is None:
            logger.warning("cannot claim from %r, trying again: %s", self._queue, error)
        if not isinstance(error, StorageError):
            logger.error("unexpected error while claiming", exc_info=error)
        await asyncio.sleep(self.outage.failed())

    def _take(self, claims: list[Claim]) -> None:
        if self._stopping:
            for claim in claims:
                self._refuse(claim)
            return
        for claim in claims:
            self._start(claim)
