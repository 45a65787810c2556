"""``Reaper``: recovers jobs whose worker has given no sign of life for a lease."""

from __future__ import annotations

import logging
from typing import Final

from jobqueue.errors import StorageUnavailable
from jobqueue.hooks import HookEvent, Hooks
from jobqueue.ids import check_name, new_token, new_worker_id
from jobqueue.maintenance.periodic import Periodic
from jobqueue.options import QueueOptions
from jobqueue.outcome import WorkerLost, decide, decode_error
from jobqueue.registry import Registry
from jobqueue.spec import SpecError, decode_spec
from jobqueue.states import EventType
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim, Settlement
from jobqueue.storage.url import storage_from
from jobqueue.undisturbed import undisturbed
from jobqueue.views import local_event

logger = logging.getLogger("jobqueue")

LIMIT: Final = 100
"""Jobs that one step takes over; their settling is one call."""


class Reaper:
    """Takes over leases that ran out, and settles them as any other claim.

    Any number may run at once: each lease is taken over by one of them. If a reaper dies with jobs
    in its hands, their new lease runs out, and another one finds them.

    Args:
        storage: A storage or its URL; ``None`` for ``$JOBQUEUE_URL``, else SQLite in this folder.
        queue: The queue's name.
        options: The queue's options, when there is no registry that has them.
        registry: Job types whose options decide about a retry. Default: none.
        hooks: Hooks to call. Default: none.
    """

    def __init__(
        self,
        storage: Storage | str | None = None,
        queue: str = "default",
        *,
        options: QueueOptions | None = None,
        registry: Registry | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.queue: Final = check_name(queue, "the queue's name")
        self.storage: Final = storage_from(storage)
        self._registry = registry or Registry(options or QueueOptions())
        self._hooks = hooks or Hooks()
        self._id = f"reaper-{new_worker_id()}"
        self._lease_ms = self._registry.options.lease_ms
        self._periodic = Periodic(f"reaper-{queue}", self._step)
        self._running = False
        self._unsettled = ""
        """Token of a recovery that may have taken over what was not settled; empty if none has."""

    async def start(self) -> None:
        """Open the storage and begin to look."""
        await self.storage.open()
        self._running = True
        self._periodic.start()

    async def stop(self) -> None:
        """Stop looking and let go of the storage. Idempotent."""
        await undisturbed(self._stop())

    async def _stop(self) -> None:
        await self._periodic.stop()
        if self._running:
            self._running = False
            await self.storage.close()

    async def __aenter__(self) -> Reaper:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _step(self) -> float:
        recovered = await self.run_once()
        # A full step may have left more. A tenth of the lease keeps recovery close to its end.
        return 0.0 if recovered >= LIMIT else min(1.0, self._lease_ms / 10_000)

    async def run_once(self) -> int:
        """Recover up to 100 jobs now.

        Returns:
            How many were taken over.

        Raises:
            StorageUnavailable: What was taken over is the next call's to settle.
        """
        token, self._unsettled = self._unsettled or new_token(), ""
        try:
            claims = await self.storage.recover(self.queue, self._id, LIMIT, self._lease_ms, token)
            if not claims:
                return 0
            settlements = [self._settlement(claim) for claim in claims]
            answers = await self.storage.finish(self.queue, self._id, settlements)
        except StorageUnavailable:
            self._unsettled = token
            raise
        for claim, settlement, held in zip(claims, settlements, answers, strict=True):
            logger.warning(
                "job %r: worker %r gave no sign of life for its lease; now %s",
                claim.id,
                claim.worker,
                settlement.outcome.state if held else "held by somebody else",
            )
            await self._tell(claim, settlement)
        return len(claims)

    def _settlement(self, claim: Claim) -> Settlement:
        try:
            spec = decode_spec(claim.spec)
        except SpecError:
            spec = None  # whoever runs it next says what is wrong with it
        policy = self._registry.policy(claim.name, spec, claim.ttl_ms)
        outcome = decide(
            policy,
            claim.attempt,
            WorkerLost(claim.worker),
            cancel_requested=claim.cancel_requested,
        )
        return Settlement(claim.id, claim.fence, outcome)

    async def _tell(self, claim: Claim, settlement: Settlement) -> None:
        outcome = settlement.outcome
        for type in (EventType.STALLED, outcome.event):
            if not self._hooks.wanted(type):
                continue
            error = decode_error(outcome.value) if outcome.value else None
            await self._hooks.emit(
                local_event(
                    HookEvent,
                    type,
                    claim.id,
                    claim.name,
                    self.queue,
                    attempt=claim.attempt,
                    worker=claim.worker,
                    error=error,
                )
            )
