"""``Consumer``: puts the pieces together and stops them in the right order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

from jobqueue.consumer.active import ActiveJob, ActiveJobs, Interruption, Slots
from jobqueue.consumer.claimer import Claimer
from jobqueue.consumer.leases import LeaseKeeper
from jobqueue.consumer.offers import Offers
from jobqueue.consumer.runner import Runner
from jobqueue.consumer.settler import Settler
from jobqueue.errors import StorageError
from jobqueue.health import Health, HealthState
from jobqueue.hooks import Hooks
from jobqueue.ids import check_name, new_worker_id
from jobqueue.options import QueueOptions
from jobqueue.outcome import Released, decide
from jobqueue.registry import JobFunction, Registry, make_handler
from jobqueue.serde import Serde, SerdeSet
from jobqueue.storage.base import Storage
from jobqueue.storage.types import (
    CONTROL,
    MAX_BATCH,
    CancelRequested,
    Claim,
    HeartbeatAnswer,
    Held,
    Message,
    Subscription,
)
from jobqueue.storage.url import storage_from
from jobqueue.undisturbed import undisturbed

logger = logging.getLogger("jobqueue")

_UNWIND: Final = 0.4
"""Seconds that cancelled handlers get to unwind when the grace period is over."""
_LAST_WORDS: Final = 0.4
"""Seconds that a stop may spend on the storage after that: a stop takes at most the grace period
plus one second."""
_TICK: Final = 0.05


class Consumer:
    """Claims and runs the jobs of one queue, several at a time.

    It renews its leases and settles outcomes. It does not recover other workers' jobs: that is what
    a :class:`~jobqueue.maintenance.Reaper` does (a :class:`~jobqueue.Worker` has one).

    Args:
        storage: A storage or its URL; ``None`` for ``$JOBQUEUE_URL``, else SQLite in this folder.
        handlers: Functions of one :class:`~jobqueue.Job` by name, or a registry.
        queue: The queue's name.
        options: The queue's options, when ``handlers`` is no registry that has them.
        serde: ``"msgpack"``, ``"json"`` or a :class:`~jobqueue.serde.Serde`.
        hooks: Hooks to call. Default: none.
        worker_id: Name of this worker; no other may have it at the same time. Default: a new one.
        concurrency: Jobs at a time. Default: what the options say.
    """

    def __init__(
        self,
        storage: Storage | str | None,
        handlers: Mapping[str, JobFunction] | Registry,
        queue: str = "default",
        *,
        options: QueueOptions | None = None,
        serde: str | Serde | SerdeSet = "msgpack",
        hooks: Hooks | None = None,
        worker_id: str | None = None,
        concurrency: int | None = None,
    ) -> None:
        registry = handlers if isinstance(handlers, Registry) else _registry(handlers, options)
        self.queue: Final = check_name(queue, "the queue's name")
        self.worker_id: Final = (
            new_worker_id() if worker_id is None else check_name(worker_id, "worker_id")
        )
        self.storage: Final = storage_from(storage)
        self._options = registry.options
        self._registry = registry
        count = self._options.concurrency if concurrency is None else concurrency
        # Half of the slots at a time: while this half runs, the storage hands out the other.
        self._slots = Slots(count, min(MAX_BATCH, ceil(count / self.storage.in_flight)))
        self._active = ActiveJobs()
        self._settler = Settler(self.storage, self.queue, self.worker_id)
        lease_ms = self._options.lease_ms
        place = (self.storage, self.queue, self.worker_id, lease_ms, self._slots)
        self._offers = Offers(*place, self._start, self._release)
        self._claimer = Claimer(*place, self._start, self._release)
        self._runner = Runner(
            self.queue,
            self.worker_id,
            registry,
            serde if isinstance(serde, SerdeSet) else SerdeSet(serde),
            hooks or Hooks(),
            self._settler,
            self._offers,
            self._slots,
            self._active,
        )
        self._keeper = LeaseKeeper(
            self.storage, self.queue, self.worker_id, lease_ms, self._active.to_renew, self._heed
        )
        self._control: Subscription | None = None
        self._running = False
        self._stopping = False

    @property
    def active_count(self) -> int:
        """Jobs that this consumer holds now."""
        return len(self._active)

    @property
    def health(self) -> Health:
        """What this consumer does now, from what it knows already."""
        # One that is busy does not claim, one that is idle settles nothing: heartbeats never end.
        outages = (self._claimer.outage, self._settler.outage, self._keeper.outage)
        since = min((at for each in outages if (at := each.began_at)), default=None)
        if self._stopping:
            state = HealthState.STOPPING
        elif not self._running:
            state = HealthState.STOPPED
        else:
            state = HealthState.CLAIMING if since is None else HealthState.STORAGE_UNAVAILABLE
        return Health(
            queue=self.queue,
            state=state,
            active_count=self.active_count,
            unavailable_since=None if state is HealthState.STOPPED else since,
        )

    async def start(self) -> None:
        """Open the storage and begin to claim.

        Raises:
            ConfigurationError: The storage cannot work as it is set up.
            StorageUnavailable: It cannot be reached now.
        """
        await self.storage.open()
        try:
            self._control = await self.storage.listen(self.queue, CONTROL, self._hear)
            await self._offers.start()
        except BaseException:
            await self.storage.close()
            raise
        self._keeper.start()
        self._claimer.start()
        self._running = True

    async def stop(self, grace: float | None = None) -> None:
        """Stop: finish what runs, release the rest.

        Claims end at once. Jobs that run get ``grace`` seconds (default: the queue's); then their
        handlers are cancelled and the jobs go back to the head of the queue, the attempt not
        charged. Takes at most ``grace`` plus one second, whatever the handlers do, and goes on to
        its end when it is cancelled. Idempotent.
        """
        if not self._running:
            return
        self._running = False
        self._stopping = True
        seconds = self._options.grace_seconds if grace is None else grace
        await undisturbed(self._stop(seconds))

    async def _stop(self, grace: float) -> None:
        deadline = time.monotonic() + grace + _UNWIND + _LAST_WORDS
        # At once, not when the task below gets its turn: a job that was started after the others
        # have been told to stop would be told nothing.
        self._claimer.halt()
        self._offers.halt()
        claimer = asyncio.create_task(self._claimer.stop(grace + _UNWIND))
        await self._finish_active(grace)
        # Not before: what ran last may have been settled with an offer.
        left = deadline - _LAST_WORDS - time.monotonic()
        await asyncio.gather(claimer, self._withdraw(max(0.1, left)))
        await self._let_go(max(0.1, deadline - time.monotonic()))
        self._stopping = False

    async def __aenter__(self) -> Consumer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # -- the pieces' callbacks -------------------------------------------------------------------

    def _start(self, claim: Claim) -> None:
        active = ActiveJob(claim)
        self._active.add(active)
        active.task = asyncio.get_running_loop().create_task(self._run(active))

    async def _run(self, active: ActiveJob) -> None:
        try:
            await self._runner.run(active)
        except Exception:
            logger.exception("job %r: unexpected error of the worker itself", active.claim.id)

    def _hear(self, messages: Sequence[Message] | None) -> None:
        for message in messages or ():
            if isinstance(message, CancelRequested):
                for active in self._active.with_id(message.id):
                    active.interrupt(Interruption.CANCEL)

    def _heed(self, held: Sequence[Held], answer: HeartbeatAnswer) -> None:
        # By fence: meanwhile the same id may have been claimed anew.
        lost, cancel_requested = set(answer.lost), set(answer.cancel_requested)
        for id, fence in held:
            active = self._active.with_fence(fence)
            if active is None or active.settled:
                continue
            if id in lost:
                active.interrupt(Interruption.LEASE_LOST)
            elif id in cancel_requested:
                active.interrupt(Interruption.CANCEL)

    # -- stopping --------------------------------------------------------------------------------

    async def _finish_active(self, grace: float) -> None:
        await self._active.emptied(grace)
        for active in self._active:
            active.interrupt(Interruption.SHUTDOWN)
        await self._active.emptied(_UNWIND)
        for active in self._active:
            if active.settled:
                continue
            # It ignores its cancellation: others may have the job, and what it still does is its
            # own affair.
            logger.warning("job %r ignores its cancellation; released", active.claim.id)
            active.settled = True
            self._release(active.claim)

    def _release(self, claim: Claim) -> None:
        policy = self._registry.policy(claim.name, None, claim.ttl_ms)
        self._settler.settle(claim, decide(policy, claim.attempt, Released()), _nobody_minds)

    async def _withdraw(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._offers.withdraw()
        except (StorageError, TimeoutError) as error:
            logger.debug("could not ask what was handed over last: %s", error)

    async def _let_go(self, seconds: float) -> None:
        await self._settler.flush(seconds)
        for active in self._active:
            # Nothing that is left has a say any more, such as a hook that waits.
            if active.task is not None:
                active.task.cancel()
        await self._active.emptied(_TICK)
        self._runner.close()
        await self._keeper.stop()
        control, self._control = self._control, None
        try:
            async with asyncio.timeout(max(0.2, seconds)):
                await self._offers.close()
                if control is not None:
                    await control.close()
                await self.storage.leave(self.queue, self.worker_id)
        except (StorageError, TimeoutError) as error:
            logger.warning("worker %s left without saying so: %s", self.worker_id, error)
        await self.storage.close()


def _nobody_minds(held: bool) -> None:
    """A job that could not be given back is somebody else's already."""


def _registry(handlers: Mapping[str, JobFunction], options: QueueOptions | None) -> Registry:
    registry = Registry(options or QueueOptions())
    for name, call in handlers.items():
        registry.add(name, make_handler(call))
    return registry
