"""The producing side: enqueue, wait, cancel, look."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, Never, TypeVar, Unpack
from weakref import WeakSet

from jobqueue.abandoned import Abandoned
from jobqueue.batcher import Batcher, send_all
from jobqueue.errors import ConfigurationError, JobNotFound, WaitTimeout
from jobqueue.events import EventStream
from jobqueue.flow import Refusal
from jobqueue.hooks import HookEvent, Hooks
from jobqueue.ids import check_name, new_token
from jobqueue.intake import Intake
from jobqueue.job import JobInfo
from jobqueue.options import (
    DEFAULT_WAIT,
    CallOptions,
    QueueOptions,
    call_options,
)
from jobqueue.outcome import cancellation, encode_error
from jobqueue.receipt import JobSpec, Receipt
from jobqueue.refusals import Refusals
from jobqueue.registry import Registry
from jobqueue.replies import Replies, Wait
from jobqueue.serde import Serde, SerdeSet
from jobqueue.states import TERMINAL, CancelResult, EnqueueStatus, EventType, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.storage.types import MAX_BATCH, Enqueued, NewJob, StoredJob, StoredResult
from jobqueue.storage.url import storage_from
from jobqueue.unanswered import Unanswered
from jobqueue.undisturbed import undisturbed
from jobqueue.values import UNSET, Seconds, to_ms
from jobqueue.views import job_info, local_event, result_of

R = TypeVar("R")

GROUP: Final = 64
"""Concurrent enqueues that share a round trip at most, where two groups are under way at a time."""


class Producer:
    """Enqueues jobs into one queue of a storage, and waits for their results.

    Opens on first use. One producer serves one event loop; after that loop has ended (as between
    two ``asyncio.run``), it opens anew in the next.

    Args:
        storage: A storage or its URL; ``None`` for ``$JOBQUEUE_URL``, else SQLite in this folder.
        queue: The queue's name.
        serde: ``"msgpack"``, ``"json"`` or a :class:`~jobqueue.serde.Serde`.
        options: The queue's options.
        registry: Job types whose options apply here, in place of ``options``.
        hooks: Hooks to call. Default: none.
    """

    def __init__(
        self,
        storage: Storage | str | None = None,
        queue: str = "default",
        *,
        serde: str | Serde = "msgpack",
        options: QueueOptions | None = None,
        registry: Registry | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.queue: Final = check_name(queue, "the queue's name")
        self.storage = storage_from(storage)
        self.serdes: Final = SerdeSet(serde)
        self._registry = registry or Registry(options or QueueOptions())
        self.intake: Final = Intake(self._registry, self.serdes)
        self._hooks = hooks or Hooks()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._lock_loop: asyncio.AbstractEventLoop | None = None
        self._streams: WeakSet[EventStream] = WeakSet()

    @property
    def options(self) -> QueueOptions:
        """The queue's options."""
        return self._registry.options

    # -- life cycle ------------------------------------------------------------------------------

    def enter_loop(self) -> bool:
        """Make ready for the running event loop; whether the producer is open in it already.

        Raises:
            ConfigurationError: It is in use in another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            self._leave_dead_loop(self._loop)
        if self._lock_loop is not loop:
            self._lock, self._lock_loop = asyncio.Lock(), loop
        return self._loop is not None

    async def open(self) -> None:
        """Connect. Happens by itself on first use; idempotent.

        Raises:
            ConfigurationError: The storage cannot work as it is set up, or the producer is in use
                in another event loop.
            StorageUnavailable: It cannot be reached.
        """
        if self.enter_loop():
            return
        async with self._lock:
            if self._loop is None:
                await self.storage.open()
                self._refusals = Refusals(self.storage, self.queue)
                self._replies = Replies(self.storage, self.queue)
                self._abandoned = Abandoned(self.storage, self.queue, self._cancel)
                in_flight = self.storage.in_flight
                most = MAX_BATCH if in_flight == 1 else GROUP
                self._batcher = Batcher[NewJob, Enqueued](self._send, _size_of, most, in_flight)
                self._unanswered = Unanswered(
                    self.storage,
                    self.queue,
                    self._registry.options.result_ttl_ms,
                    self._batcher.ask,
                    self._replies,
                    self._refusals,
                )
                self._loop = asyncio.get_running_loop()

    def _leave_dead_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        if not loop.is_closed():
            raise ConfigurationError(
                f"queue {self.queue!r} is open in another event loop: use SyncQueue from other "
                "threads, or a Queue object for each loop"
            )
        self.storage = self.storage.twin()
        self._streams.clear()
        self._loop = None

    async def close(self) -> None:
        """Send what is on its way and let go of everything. Idempotent."""
        self.enter_loop()
        await undisturbed(self._close())

    async def _close(self) -> None:
        async with self._lock:
            if self._loop is None:
                return
            await self._batcher.flushed()
            await self._unanswered.close()
            await self._abandoned.close()
            await self._replies.close()
            for stream in list(self._streams):
                await stream.aclose()
            await self.storage.close()
            self._loop = None

    async def __aenter__(self) -> Producer:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- enqueue ---------------------------------------------------------------------------------

    async def enqueue(
        self, name: str, payload: Any = None, **options: Unpack[CallOptions]
    ) -> Receipt[Any]:
        """Store a job and return at once. Costs one round trip, shared with concurrent calls.

        Args:
            name: Its job type.
            payload: What the handler gets; anything that the serde can hold.
            options: See :class:`~jobqueue.options.JobOptions`.

        Raises:
            TypeError: An option of the wrong type; nothing is stored.
            ValueError: An option out of range; nothing is stored.
            SerializationError: The payload cannot be serialised or is too large; nothing is stored.
            QueueFull, QueueDraining: The queue accepts nothing new; nothing is stored.
            StorageUnavailable: It may or may not be stored. Enqueue again with the same ``id``.
        """
        return await self.enqueue_spec(JobSpec(name, payload, call_options(**options)))

    async def enqueue_spec(self, spec: JobSpec[R]) -> Receipt[R]:
        """Like :meth:`enqueue`, for a job that has been put together before."""
        return await self.enqueue_job(self.intake.new_job(spec))

    async def enqueue_job(self, job: NewJob) -> Receipt[Any]:
        """Like :meth:`enqueue`, for a job in the form in which it is stored."""
        if self._loop is not asyncio.get_running_loop():
            await self.open()
        answer = await self._batcher.ask(job)
        if self._hooks.wanted(EventType.ENQUEUED):
            await self._tell_enqueued(job, answer)
        return self._receipt(job, answer) or await self._refuse(answer)

    async def enqueue_many(self, specs: Iterable[JobSpec[R]]) -> list[Receipt[R]]:
        """Store many jobs; the receipts come in the same order. 500 jobs share a round trip.

        Raises:
            TypeError, ValueError, SerializationError: One of them is not as it must be; none is
                stored.
            QueueFull, QueueDraining: Some were not accepted. The error's ``receipts`` say which.
            StorageUnavailable: Some, all or none may be stored.
        """
        jobs = [self.intake.new_job(spec) for spec in specs]
        await self.open()
        answers = await send_all(self._send, jobs, _size_of, MAX_BATCH, self.storage.in_flight)
        if self._hooks.wanted(EventType.ENQUEUED):
            for job, answer in zip(jobs, answers, strict=True):
                await self._tell_enqueued(job, answer)
        receipts = [self._receipt(job, answer) for job, answer in zip(jobs, answers, strict=True)]
        accepted = [receipt for receipt in receipts if receipt is not None]
        if len(accepted) < len(receipts):
            await self._refuse(answers[receipts.index(None)], receipts)
        return accepted

    def _receipt(self, job: NewJob, answer: Enqueued) -> Receipt[Any] | None:
        """The receipt, or ``None`` for a job that was not accepted."""
        status = answer.status
        if isinstance(status, Refusal):
            return None
        return Receipt(self, answer.other_id or job.id, status, answer.state, answer.value)

    async def _refuse(
        self, answer: Enqueued, receipts: Sequence[Receipt[Any] | None] = ()
    ) -> Never:
        error = await self._refusals.error(answer.status)
        error.receipts = receipts
        raise error

    async def enqueue_and_wait(
        self, name: str, payload: Any = None, **options: Unpack[CallOptions]
    ) -> Any:
        """Store a job and wait for its result; an id that has a result is answered with that.

        Args:
            name: Its job type.
            payload: What the handler gets.
            options: See :class:`~jobqueue.options.JobOptions`; ``wait`` is 30 s by default.

        Raises:
            JobFailed: It failed for good.
            JobCancelled: It was cancelled.
            JobExpired: It was not started in time.
            WaitTimeout: No result within ``wait``; the job goes on, unless it has not started and
                ``drop_abandoned`` was given.
            TypeError, ValueError, SerializationError, QueueFull, QueueDraining,
            StorageUnavailable: As :meth:`enqueue`.
        """
        return await self.call_spec(JobSpec(name, payload, call_options(**options)))

    async def call_spec(self, spec: JobSpec[R]) -> R:
        """Like :meth:`enqueue_and_wait`, for a job that has been put together before."""
        if self._loop is not asyncio.get_running_loop():
            await self.open()
        job = self.intake.new_job(spec, reply_to=self._replies.address)
        if not self._replies.are_heard:
            await self._replies.subscribe()
        wait_option = spec.options.wait
        seconds = DEFAULT_WAIT if wait_option is UNSET else wait_option
        # A job of an id that somebody chose may be another caller's.
        is_ours = not job.request
        with self._replies.waiting(job.id) as wait:
            try:
                if (
                    self._batcher.is_idle
                    and not self._hooks.wanted(EventType.ENQUEUED)
                    and self._unanswered.send(job, wait)
                ):
                    return await self._ending(wait, seconds)
                answer = await self._batcher.ask(job)
                if answer.status is EnqueueStatus.QUEUED:
                    is_ours = wait.stored = True
                    if self._hooks.wanted(EventType.ENQUEUED):
                        await self._tell_enqueued(job, answer)
                    return await self._ending(wait, seconds)
            except (asyncio.CancelledError, WaitTimeout):
                options = self._registry.options_of(job.name).override(spec.options)
                if is_ours and options.drop_abandoned is True:
                    self._abandoned.drop(job.id)
                raise
            receipt = self._receipt(job, answer) or await self._refuse(answer)
            if answer.state not in TERMINAL and not answer.other_id:
                wait.stored = True
                return await self._ending(wait, seconds)
        return await receipt.result(seconds)

    def _send(self, jobs: list[NewJob]) -> Coroutine[Any, Any, list[Enqueued]]:
        return self.storage.enqueue(self.queue, jobs)

    async def _tell_enqueued(self, job: NewJob, answer: Enqueued) -> None:
        if answer.status is EnqueueStatus.QUEUED:
            await self._hooks.emit(
                local_event(HookEvent, EventType.ENQUEUED, job.id, job.name, self.queue, attempt=0)
            )

    # -- results ---------------------------------------------------------------------------------

    async def result(self, id: str, *, wait: Seconds | None = None) -> Any:
        """The result of a job, as soon as there is one.

        Args:
            id: The job.
            wait: Seconds to wait at most. Default: as long as it takes.

        Raises:
            JobNotFound: No such id, or its time to live is over.
            JobFailed: It failed for good.
            JobCancelled: It was cancelled.
            JobExpired: It was not started in time.
            WaitTimeout: There is none within ``wait``; the job goes on.
        """
        check_name(id, "id")
        if wait is not None:
            to_ms(wait, "wait")
        await self.open()
        ending = await self._stored_result(id)
        if ending.state in TERMINAL:
            return self.open_result(id, ending)
        await self._replies.subscribe()
        with self._replies.waiting(id) as waiting:
            ending = await self._stored_result(id, self._replies.address)
            if ending.state in TERMINAL:
                return self.open_result(id, ending)
            waiting.stored = True
            return await self._ending(waiting, wait)

    async def _stored_result(self, id: str, reply_to: str | None = None) -> StoredResult:
        (ending,) = await self.storage.results(self.queue, [id], reply_to)
        if ending is None:
            raise JobNotFound(id)
        return ending

    async def _ending(self, waiting: Wait, wait: Seconds | None) -> Any:
        """The result, within a time that has been checked."""
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
        return self.open_result(waiting.id, await waiting.within(seconds))

    def open_result(self, id: str, ending: StoredResult) -> Any:
        """The value of a job that has ended, or the error that says why there is none."""
        return result_of(id, ending, self.serdes)

    # -- look and change -------------------------------------------------------------------------

    async def get(self, id: str) -> JobInfo | None:
        """All that is stored about a job, or ``None``."""
        check_name(id, "id")
        await self.open()
        (stored,) = await self.storage.get(self.queue, [id])
        return None if stored is None else self.info_of(stored)

    def info_of(self, stored: StoredJob) -> JobInfo:
        """A stored job as users see it."""
        return job_info(stored, self.queue, self.serdes, self._registry)

    async def cancel(self, id: str) -> CancelResult:
        """Cancel a job that waits; ask a running one to stop.

        Returns:
            ``cancelled``: it will not run (again). ``running``: a stop has been requested.
            ``finished``: it had ended before. ``not_found``: no such id.
        """
        check_name(id, "id")
        await self.open()
        return await self._cancel(id, "cancelled on request")

    async def _cancel(self, id: str, why: str) -> CancelResult:
        ttl_ms = self._registry.options.result_ttl_ms
        value = encode_error(cancellation(why))
        (answer,) = await self.storage.cancel(self.queue, [id], ttl_ms, value, new_token())
        return answer

    async def set_result_ttl(self, id: str, seconds: Seconds) -> TtlResult:
        """Forget a finished job that many seconds from now.

        Returns:
            ``updated``, ``not_found`` or ``not_finished``.
        """
        check_name(id, "id")
        ttl_ms = to_ms(seconds, "seconds")
        await self.open()
        (answer,) = await self.storage.set_result_ttl(self.queue, [id], ttl_ms)
        return answer

    async def counts(self) -> dict[str, int]:
        """The exact number of jobs in each state, every state present."""
        await self.open()
        counts = await self.storage.counts(self.queue)
        return {str(state): number for state, number in counts.items()}

    def events(self) -> EventStream:
        """Every worker's and producer's events from now on, for ``async for`` (or ``async with``).

        A hint for people and dashboards: events may be lost. It ends when the producer is closed.
        """
        stream = EventStream(self.open_storage, self.queue)
        self._streams.add(stream)
        return stream

    async def open_storage(self) -> Storage:
        """The storage, open."""
        await self.open()
        return self.storage


def _size_of(job: NewJob) -> int:
    return len(job.spec)
