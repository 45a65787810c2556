"""The jobs that this process holds a lease for, and the slots they run in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from enum import Enum
from typing import Any

from jobqueue.job import Job
from jobqueue.storage.types import Claim, Held


class Interruption(Enum):
    """Why a handler is stopped before it is done."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"


class ActiveJob:
    """One leased job.

    Attributes:
        claim: What the storage handed out.
        job: What the handler sees, once it is decoded.
        task: The task that runs it.
        thread: Done when the thread of its sync handler is, if it has one.
        interruption: Why the handler was told to stop, if it was.
        cancelled_from_outside: The task was cancelled by none of us: the event loop is being shut
            down, or the handler cancelled itself.
        renew_until: Monotonic time after which the lease is no longer renewed, so that a handler
            which ignores its time limit does not keep the job for ever.
    """

    __slots__ = (
        "_in_handler",
        "_in_thread",
        "cancelled_from_outside",
        "claim",
        "interruption",
        "job",
        "renew_until",
        "settled",
        "task",
        "thread",
    )

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.job: Job | None = None
        self.task: asyncio.Task[None] | None = None
        self.thread: asyncio.Future[tuple[Any, BaseException | None]] | None = None
        self.interruption: Interruption | None = None
        self.renew_until: float | None = None
        self.settled = False
        self.cancelled_from_outside = False
        self._in_handler = False
        self._in_thread = False

    def enter_handler(self, *, in_thread: bool) -> None:
        """From here on an interruption cancels the task."""
        self._in_handler = True
        self._in_thread = in_thread

    def leave_handler(self) -> None:
        """The handler is done; a cancellation that it swallowed must not hit what comes after."""
        self._in_handler = False
        task = self.task
        if task is not None and task.cancelling() and self.interruption is None:
            self.cancelled_from_outside = True
        while task is not None and task.cancelling():
            task.uncancel()

    def interrupt(self, why: Interruption) -> None:
        """Tell the handler to stop.

        An async handler is cancelled. A thread cannot be: it is told through ``cancel_requested``;
        when its time is up, its lease is lost or the worker stops, nobody waits for it any longer.
        """
        if self.interruption is None or why is Interruption.LEASE_LOST:
            self.interruption = why
        if self.job is not None:
            self.job.cancel_requested = True
        waits = self._in_thread and why is Interruption.CANCEL
        if self._in_handler and not waits and self.task is not None:
            self.task.cancel()


class ActiveJobs:
    """All leased jobs of one consumer, by fence: an id may be claimed again before an old run of
    it has ended."""

    def __init__(self) -> None:
        self._by_fence: dict[int, ActiveJob] = {}
        self._newest: dict[str, ActiveJob] = {}
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._by_fence)

    def __iter__(self) -> Iterator[ActiveJob]:
        return iter(list(self._by_fence.values()))

    def add(self, active: ActiveJob) -> None:
        """Add a job. Of two runs of it the one with the older fence has lost its lease: nobody else
        could have claimed it. After a stand-still of this process, that may be the one that is
        added last, since what is claimed and what is handed over come on two connections."""
        id, fence = active.claim.id, active.claim.fence
        self._by_fence[fence] = active
        other = self._newest.get(id)
        if other is not None and other.claim.fence > fence:
            active.interrupt(Interruption.LEASE_LOST)
            return
        if other is not None and not other.settled:
            other.interrupt(Interruption.LEASE_LOST)
        self._newest[id] = active

    def remove(self, active: ActiveJob) -> None:
        self._by_fence.pop(active.claim.fence, None)
        if self._newest.get(active.claim.id) is active:
            del self._newest[active.claim.id]
        if not self._by_fence:
            self._empty.set()

    async def emptied(self, seconds: float) -> None:
        """Wait until there are none, that many seconds at most."""
        if self._by_fence and seconds > 0:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)

    def with_fence(self, fence: int) -> ActiveJob | None:
        return self._by_fence.get(fence)

    def with_id(self, id: str) -> list[ActiveJob]:
        return [active for active in self if active.claim.id == id]

    def to_renew(self) -> list[Held]:
        """The leases to extend now, one for an id: of jobs that run, and of those whose outcome the
        storage has not confirmed yet. Also called from the lease keeper's thread."""
        now = time.monotonic()
        return [
            Held(active.claim.id, active.claim.fence)
            for active in self
            if self._newest.get(active.claim.id) is active
            and active.interruption is not Interruption.LEASE_LOST
            and (active.settled or active.renew_until is None or now < active.renew_until)
        ]


class Slots:
    """How many more jobs may run.

    Args:
        count: Of them.
        most: How many one claim may ask for.

    Attributes:
        free: For which there are neither jobs nor a claim.
        reserved: For what a claim under way may bring.
    """

    def __init__(self, count: int, most: int) -> None:
        self.free = count
        self.reserved = 0
        self._most = most
        self._freed = asyncio.Event()

    def take(self) -> None:
        """Use a free one."""
        self.free -= 1

    def give(self) -> None:
        """Give one back."""
        self.free += 1
        self._freed.set()

    @property
    def has_spare(self) -> bool:
        """Whether one stays free beside a claim, be it under way or about to be."""
        return self.free > (0 if self.reserved else self._most)

    async def reserve(self) -> int:
        """Set aside what one claim may ask for; wait until there is any."""
        while self.free <= 0:
            self._freed.clear()
            await self._freed.wait()
        self.reserved = min(self.free, self._most)
        self.free -= self.reserved
        return self.reserved

    def use_reserved(self, count: int) -> None:
        """Use so many of those that are set aside, and free the others."""
        self.free += self.reserved - count
        self.reserved = 0
