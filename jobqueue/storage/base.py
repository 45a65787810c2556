"""The storage port: what every storage owes, word for word.

A storage moves bytes and states, atomically. It knows nothing of handlers, retries, backoffs or
serialisation. Batch is the primitive: each verb takes many jobs of one queue and answers in the
same order. All storages give the same answers to the same calls in the same order; the contract
suite in ``tests/contract`` is run on each.

Rules that hold for every verb:

- One call is one atomic step; other processes see all of it or nothing.
- Time is the storage's (the server's clock, or an injected one). Times and durations are whole
  milliseconds; moments count from the epoch.
- Ids, queue, worker and job names are opaque text of 1 to 255 bytes; nothing is parsed out of it.
- A verb that changes something may be called again with the same arguments when its answer was
  lost: the state is then as after one call, and the answer as the first. (Of :meth:`promote` and
  :meth:`prune` every call is one more step, and answers for itself.)
- A job whose time to live is over does not exist, for every verb, at once.
- ``StorageUnavailable`` means that it may or may not have happened; any other ``StorageError`` that
  it did not.
- At most :data:`MAX_BATCH` jobs in one call; callers see to it.
- A lease is held until somebody takes it over: one that ran out a moment ago may still be extended
  and settled. The fence names the holder, since it is never used twice; no verb compares workers.
- A closed storage raises ``StorageError``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from jobqueue.flow import Control, Limit, LimitInfo, LimitScope, Schedules, StoredSchedule
from jobqueue.states import CancelResult, JobState, RescheduleResult, TtlResult
from jobqueue.storage.types import (
    Claim,
    ClaimRequest,
    Enqueued,
    HeartbeatAnswer,
    Held,
    NewJob,
    Offer,
    Settlement,
    Sink,
    StoredJob,
    StoredResult,
    Subscription,
)


class _OpenCount:
    """How many use a storage. It may be used in one event loop after another."""

    def __init__(self) -> None:
        self.users = 0
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def lock(self) -> asyncio.Lock:
        """The lock for the running loop: one that was waited for belongs to its loop for ever."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._lock, self._loop = asyncio.Lock(), loop
        return self._lock


class Storage(ABC):
    """A place for jobs. May be shared by many queues; the last :meth:`close` closes it.

    One object serves one event loop at a time. :meth:`twin` gives another one for another loop.

    Attributes:
        in_flight: Batches that callers should keep on their way. Two smaller ones where the storage
            works on one while this process handles the answers of the other; one large one where
            each costs a transaction.
    """

    in_flight: ClassVar[int] = 1

    def __init__(self) -> None:
        self._open_count = _OpenCount()

    async def open(self) -> None:
        """Connect, on the first of possibly many calls.

        Raises:
            ConfigurationError: The server is too old or the file is no queue.
            StorageUnavailable: It cannot be reached.
        """
        async with self._open_count.lock:
            if self._open_count.users == 0:
                await self._open()
            self._open_count.users += 1

    async def close(self) -> None:
        """Undo one :meth:`open`; the last one lets go of every connection, thread and file."""
        async with self._open_count.lock:
            if self._open_count.users == 0:
                return
            self._open_count.users -= 1
            if self._open_count.users == 0:
                await self._close()

    @abstractmethod
    async def _open(self) -> None: ...

    @abstractmethod
    async def _close(self) -> None: ...

    @abstractmethod
    def twin(self) -> Storage:
        """Another, closed handle on the same jobs, for use in another event loop or thread."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the jobs are, with any password masked."""

    @abstractmethod
    async def enqueue(self, queue: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store each job whose id is new; report the others.

        - No such id, or it is ``cancelled``: stored anew, at the tail of the queue (``queued``) or
          waiting for its time (``scheduled``; a moment that is not in the future is "at once").
          Nothing of a cancelled predecessor remains, but that a repeat of its cancel is known.
        - ``completed``: answered ``completed`` with its result.
        - Anything else: ``duplicate`` with its state (and for ``failed`` its error). The stored job
          does not change, except that ``reply_to`` is remembered in the same step unless the job
          has ended.
        - Stored by this same request (same ``request``, or no request and so an id made for it):
          answered ``queued`` as the first time, with the state that it has now.

        A job that would be stored is first held against its ``unique``, then against the queue:

        - A job is there under the same unique key and still counts (it exists, be it a cancelled
          one of this very id, and ``until`` of the *new* job's ``unique`` has not come for it):
          answered with its id as ``other_id``: ``completed`` with its result, or ``duplicate`` with
          its state, and if it has ended its error. If the new one would ``replace`` it:
          ``replaced``, and nothing of the new one is kept but what ``replace`` says (a repeat of
          the same request changes nothing again). ``reply_to`` is remembered for it.
        - The queue is draining, or ``max_waiting`` jobs are scheduled or queued: refused. Known ids
          and unique keys are answered all the same.

        Publishes ``enqueued`` for each stored job.
        """

    def send(self, queue: str, job: NewJob) -> bool:
        """Enqueue a job without an answer, if that is cheaper here, and possible now.

        It may be lost on its way, or refused, and nobody says so: who has to know enqueues the same
        job again.

        Returns:
            Whether it was sent.
        """
        return False

    @abstractmethod
    async def claim(self, queue: str, request: ClaimRequest) -> list[Claim]:
        """Take up to ``count`` jobs; each becomes ``running``: a new fence, one more attempt.

        Due scheduled and retrying jobs first join the tail of the queue, by due time (up to
        :data:`MAX_BATCH` of them; the same moment in no promised order); then jobs are taken from
        its head: by level, then in turn from each group, then first in, first out. "Head" and
        "tail" always mean those of a job's own level and group.

        Not taken: anything while the queue is paused; what has expired (it ends, see
        :class:`~jobqueue.flow.Flow`); what a limit holds back. A job that is held back stays
        ``queued`` and keeps nobody behind it from starting, but those under the same limit. Those
        that one limit holds back start by level, then in the order in which their turn came. Among
        limits, those of the job itself count first (``alone``, key, type), then the queue's; a rate
        counts only jobs that do start.

        What some other program has stored, and nobody can read as a flow, says nothing; such a job
        is given away with an empty spec, so that its worker fails it.

        Waits up to ``block_ms`` while there are none, and returns early when
        :meth:`unblock` is called. A call with the token of this worker's last claim returns those
        of its jobs that this worker still holds under the same fence. Also a sign of life.

        Never cancel a call in flight: unblock it. Publishes ``started``.
        """

    @abstractmethod
    async def unblock(self, queue: str, worker: str) -> None:
        """Make a waiting :meth:`claim` of this worker, made through this object, return soon.

        Call again until it has: a claim that is only about to wait is not woken.
        """

    @abstractmethod
    async def finish(
        self,
        queue: str,
        worker: str,
        settlements: Sequence[Settlement],
        offer: Offer | None = None,
    ) -> list[bool]:
        """Apply each outcome whose fence still holds the lease; say for each whether it did.

        - terminal: the job keeps ``value`` and is forgotten ``ttl_ms`` later; all its reply
          addresses are told.
        - ``retrying``, ``scheduled``: due after ``delay_ms``; a value is kept as the last error.
        - ``queued``: back to the head of the queue; several in one call keep their order.
        - A cancel was requested and the outcome is not terminal: ends ``cancelled`` instead, as the
          cancel said (see :meth:`cancel`).
        - The fence does not hold: nothing changes, ``False``. A repeat of a call that was applied
          answers ``True`` as long as nobody settled the job since.

        With an ``offer`` the worker, which hears :func:`handed`, may be handed one job there by the
        storage itself, leased as by :meth:`claim`, with the same events and in the same order of
        jobs. An offer ends with that, with the worker's next claim that brings something, with
        :meth:`withdraw`, or when the storage prefers another worker's. It need not be taken up at
        all.

        Publishes the outcome's event.
        """

    @abstractmethod
    async def withdraw(self, queue: str, worker: str) -> Claim | None:
        """End a worker's offer; the job that it was handed last, if it still holds it, since the
        message may have been lost."""

    @abstractmethod
    async def heartbeat(
        self, queue: str, worker: str, held: Sequence[Held], lease_ms: int
    ) -> HeartbeatAnswer:
        """Extend what is still held (never shorten, never take back what was lost).

        Also a sign of life of the worker, with nothing held.
        """

    @abstractmethod
    async def recover(
        self, queue: str, reaper: str, limit: int, lease_ms: int, token: str
    ) -> list[Claim]:
        """Take over up to ``limit`` leases that ran out, and give back what dead workers had not
        yet leased.

        Each job stays ``running`` with the attempt it has, gets a new fence and a lease of
        ``lease_ms`` for ``reaper``, who settles it with :meth:`finish`. Publishes ``stalled``.

        A recovery that found something is its reaper's last claim: a call with the same ``token``
        returns those of its jobs that this reaper still holds under the same fence.
        """

    @abstractmethod
    async def promote(self, queue: str, limit: int) -> int | None:
        """Move up to ``limit`` due jobs to the tail of the queue, by due time, and end up to
        ``limit`` that have expired.

        Returns:
            Milliseconds until the next job is due, expires, or may start under its rate (0: at
            once), or ``None`` when none will.
        """

    @abstractmethod
    async def prune(self, queue: str, limit: int) -> int:
        """Drop up to ``limit`` remains of jobs whose time to live is over; say how many.

        What remains differs: a storage may have given back the space by itself.
        """

    @abstractmethod
    async def cancel(
        self, queue: str, ids: Sequence[str], ttl_ms: int, value: bytes, request: str
    ) -> list[CancelResult]:
        """Cancel what waits; request a stop of what runs; leave what has ended.

        A waiting job ends ``cancelled`` with ``value`` as its error, kept for its own ``ttl_ms``,
        else for the one given; its reply addresses are told, ``cancelled`` is published. For a
        running job, ``value`` and the time to live are kept in case it is given back (see
        :meth:`finish`), the request is published on :data:`CONTROL`, and heartbeats repeat it; the
        first of several requests counts.

        ``request`` is the token of this one cancel, kept with each job that it changed: a repeat of
        it answers as the first time, whatever became of the job since.
        """

    @abstractmethod
    async def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        """Read whole jobs; ``None`` for an unknown id."""

    @abstractmethod
    async def results(
        self, queue: str, ids: Sequence[str], reply_to: str | None = None
    ) -> list[StoredResult | None]:
        """Read states, and values of any size where a job has ended; ``None`` for an unknown id.

        With ``reply_to``, that address is remembered for each job that has not ended, in the same
        step.
        """

    @abstractmethod
    async def set_result_ttl(self, queue: str, ids: Sequence[str], ttl_ms: int) -> list[TtlResult]:
        """Forget finished jobs ``ttl_ms`` from now."""

    @abstractmethod
    async def counts(self, queue: str) -> dict[JobState, int]:
        """Exact number of jobs in each state, every state present."""

    # -- time and flow ---------------------------------------------------------------------------

    @abstractmethod
    async def reschedule(
        self, queue: str, ids: Sequence[str], due_ms: int
    ) -> list[RescheduleResult]:
        """Give ``scheduled`` and ``retrying`` jobs another due time; 0, or one that is not in the
        future, is "at once": ``queued``, at the tail. Others do not change. (A repeat of "at once"
        finds its jobs ``queued`` or further, and says so.)"""

    @abstractmethod
    async def delayed(
        self, queue: str, limit: int, after: tuple[int, str] | None = None
    ) -> list[StoredJob]:
        """Up to ``limit`` scheduled and retrying jobs, by due time and then by the UTF-8 bytes of
        their ids; with ``after`` (due time and id of the last one seen) those that follow it."""

    @abstractmethod
    async def control(self, queue: str, changes: Mapping[str, int] | None = None) -> Control:
        """Change some fields of the queue's :class:`~jobqueue.flow.Control` (by name; 0 and 1 for
        false and true), at once for every worker and producer; say what holds now."""

    @abstractmethod
    async def set_limit(self, queue: str, scope: LimitScope, limit: Limit | None) -> None:
        """Put a limit in force in place of the one that was, or end it. Running jobs count from the
        first moment (of a limit by key: those that name it), past starts do not count; what ran
        before runs on. What the old limit held back and the new one does not may start. The same
        limit again changes nothing (or only ``pinned``)."""

    @abstractmethod
    async def limits(self, queue: str) -> list[LimitInfo]:
        """All limits in force, by kind (queue, type, key) and name. For those by key: how many of
        all its keys run and are held back."""

    @abstractmethod
    async def clear(self, queue: str, limit: int, ttl_ms: int, value: bytes) -> int:
        """End up to ``limit`` jobs that wait (queued, scheduled, retrying), as :meth:`cancel` does;
        say how many. Every call is one more step."""

    @abstractmethod
    async def obliterate(self, queue: str, limit: int) -> int:
        """Forget up to ``limit`` jobs of any state as if they had never been, and say how many. Who
        runs one has lost its lease; nobody is told. The call that finds none also forgets
        schedules, limits and control. Every call is one more step."""

    @abstractmethod
    async def schedules(
        self, queue: str, ids: Sequence[str] | None = None, *, due: int = 0
    ) -> Schedules:
        """Schedules: those with these ids, else the first ``due`` that are due, by that time; with
        neither, all, by id."""

    @abstractmethod
    async def put_schedule(
        self, queue: str, schedule: StoredSchedule, jobs: Sequence[NewJob] = ()
    ) -> bool:
        """Store a schedule if the one that is there has the version before (none: 0), and enqueue
        ``jobs`` in the same step, as :meth:`enqueue` does but for the state of the queue: they are
        accepted while it is full or draining. Otherwise nothing changes, ``False``. A repeat (same
        version, same token) changes nothing, ``True``."""

    @abstractmethod
    async def delete_schedule(self, queue: str, id: str) -> bool:
        """Forget a schedule; whether there was one. (A repeat finds none.)"""

    @abstractmethod
    async def leave(self, queue: str, worker: str) -> None:
        """Forget a worker that stops: its sign of life, its claim token, and what was handed to it
        but not leased, which goes back to the head of the queue."""

    @abstractmethod
    async def listen(self, queue: str, topic: str, sink: Sink) -> Subscription:
        """Hear what is published on a topic: :data:`EVENTS`, :data:`CONTROL`, :func:`replies` or
        :func:`handed`.

        Returns once the subscription is in force. A hint only: messages may be lost, and the sink
        is then called with ``None`` where that is known. A sink must not raise.
        """

    async def __aenter__(self) -> Storage:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
