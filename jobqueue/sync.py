"""``SyncQueue``: a queue for scripts, Flask and Django, without ``await``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, Unpack

from jobqueue import admin
from jobqueue.admin import Progress, QueueControl
from jobqueue.errors import NotAccepted
from jobqueue.job import JobInfo
from jobqueue.options import CallOptions
from jobqueue.producer import Producer
from jobqueue.queue import Queue
from jobqueue.receipt import JobSpec
from jobqueue.states import CancelResult, RescheduleResult, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.syncclient import SyncEventStream, SyncReceipt
from jobqueue.synclimits import SyncLimits
from jobqueue.syncschedules import SyncSchedules
from jobqueue.values import Seconds

P = ParamSpec("P")
R = TypeVar("R")


def _arguments_of(
    original: Callable[Concatenate[Any, P], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give a constructor the arguments of another one, for readers and type checkers."""

    def decorate(function: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        function.__wrapped__ = original  # pyright: ignore[reportFunctionMemberAccess] - as functools.wraps
        return function

    return decorate


class SyncQueue:
    """A :class:`~jobqueue.Queue` for code without an event loop: the same calls, no ``await``.

    Takes the arguments of :class:`~jobqueue.Queue`. May be used from any number of threads;
    concurrent calls share round trips. Opens on first use, also after :meth:`close` and in a forked
    child. Need not be closed: it keeps no program from ending.

    A handler runs in a worker, which needs an event loop: ``jobqueue worker module:name.queue``.

    Attributes:
        queue: The queue itself, for a worker.
        job, handler, on, after_execution, cron, every: The decorators of that queue. Call and
            enqueue job types with ``f.call_sync(...)`` and ``f.enqueue_sync(...)``.
        schedules: Its schedules.
        limits: Its limits that are in force.

    Raises:
        RuntimeError: From every call: an event loop runs in this thread, and would be blocked.
        StorageError: From a call that waits while another thread closes the queue.
    """

    @_arguments_of(Queue.__init__)
    def __init__(self, *args: Any, **options: Any) -> None:
        self.queue = Queue(*args, **options)
        self.job = self.queue.job
        self.handler = self.queue.handler
        self.on = self.queue.on
        self.after_execution = self.queue.after_execution
        self.cron = self.queue.cron
        self.every = self.queue.every
        self._client = self.queue.sync_client
        self.limits: Final = SyncLimits(self._client)
        self.schedules: Final = SyncSchedules(self._client)

    @property
    def name(self) -> str:
        return self.queue.name

    @property
    def storage(self) -> Storage:
        return self.queue.storage

    def __repr__(self) -> str:
        return f"<SyncQueue {self.name!r} on {self.storage.url}>"

    def open(self) -> None:
        """Connect. Happens by itself on first use; idempotent."""
        self._client.call("queue.open", Producer.open)

    def close(self) -> None:
        """Send what is on its way and let go of everything. Idempotent."""
        self._client.close()

    def __enter__(self) -> SyncQueue:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def enqueue(
        self, name: str, payload: Any = None, **options: Unpack[CallOptions]
    ) -> SyncReceipt[Any]:
        """Store a job and return at once. See :meth:`Producer.enqueue`."""
        receipt = self._client.call("queue.enqueue", Producer.enqueue, name, payload, **options)
        return SyncReceipt(self._client, receipt)

    def enqueue_many(self, specs: Iterable[JobSpec[R]]) -> list[SyncReceipt[R]]:
        """Store many jobs, receipts in the same order. See :meth:`Producer.enqueue_many`."""
        # What makes the specs is the caller's code, and runs in the caller's thread.
        try:
            receipts = self._client.call("queue.enqueue_many", Producer.enqueue_many, list(specs))
        except NotAccepted as error:
            error.receipts = [each and SyncReceipt(self._client, each) for each in error.receipts]
            raise
        return [SyncReceipt(self._client, receipt) for receipt in receipts]

    def enqueue_and_wait(
        self, name: str, payload: Any = None, **options: Unpack[CallOptions]
    ) -> Any:
        """Store a job and wait for its result. See :meth:`Producer.enqueue_and_wait`."""
        return self._client.call(
            "queue.enqueue_and_wait", Producer.enqueue_and_wait, name, payload, **options
        )

    def result(self, id: str, *, wait: Seconds | None = None) -> Any:
        """The result of a job, as soon as there is one. See :meth:`Producer.result`."""
        return self._client.call("queue.result", Producer.result, id, wait=wait)

    def get(self, id: str) -> JobInfo | None:
        """All that is stored about a job, or ``None``. See :meth:`Producer.get`."""
        return self._client.call("queue.get", Producer.get, id)

    def cancel(self, id: str) -> CancelResult:
        """Cancel a job that waits; ask a running one to stop. See :meth:`Producer.cancel`."""
        return self._client.call("queue.cancel", Producer.cancel, id)

    def set_result_ttl(self, id: str, seconds: Seconds) -> TtlResult:
        """Forget a finished job that many seconds from now. See :meth:`Producer.set_result_ttl`."""
        return self._client.call("queue.set_result_ttl", Producer.set_result_ttl, id, seconds)

    def counts(self) -> dict[str, int]:
        """The exact number of jobs in each state. See :meth:`Producer.counts`."""
        return self._client.call("queue.counts", Producer.counts)

    def reschedule(self, id: str, at: datetime | Seconds) -> RescheduleResult:
        """Give a job that waits for its time another one. See :meth:`Queue.reschedule`."""
        return self._client.call("queue.reschedule", admin.reschedule, id, at)

    def run_now(self, id: str) -> RescheduleResult:
        """Let a job that waits for its time start at once. See :meth:`Queue.run_now`."""
        return self._client.call("queue.run_now", admin.run_now, id)

    def scheduled(self, limit: int = 100, after: JobInfo | None = None) -> list[JobInfo]:
        """Jobs that wait for their time, the next one first. See :meth:`Queue.scheduled`."""
        return self._client.call("queue.scheduled", admin.scheduled, limit, after)

    def control(self) -> QueueControl:
        """What holds for the whole queue now."""
        return self._client.call("queue.control", admin.control)

    def pause(self) -> None:
        """Let no worker start anything. See :meth:`Queue.pause`."""
        self._client.call("queue.pause", admin.pause)

    def resume(self) -> None:
        """Take back :meth:`pause` and :meth:`drain`."""
        self._client.call("queue.resume", admin.resume)

    def drain(self, wait: Seconds | None = None) -> None:
        """Accept nothing new; what is there is finished. See :meth:`Queue.drain`."""
        self._client.call("queue.drain", admin.drain, wait)

    def clear(self, progress: Progress | None = None) -> int:
        """Cancel every job that waits. See :meth:`Queue.clear`; ``progress`` is called in the
        background thread."""
        return self._client.call("queue.clear", admin.clear, progress)

    def obliterate(
        self, confirm: str, *, force: bool = False, progress: Progress | None = None
    ) -> int:
        """Forget everything about the queue. See :meth:`Queue.obliterate`; ``progress`` is called
        in the background thread."""
        return self._client.call("queue.obliterate", admin.obliterate, confirm, force, progress)

    def set_max_length(self, count: int | None) -> None:
        """Let no more than so many jobs wait. See :meth:`Queue.set_max_length`."""
        self._client.call("queue.set_max_length", admin.set_max_length, count)

    def set_low_share(self, share: float | None) -> None:
        """Give ``low`` jobs a share of the starts. See :meth:`Queue.set_low_share`."""
        self._client.call("queue.set_low_share", admin.set_low_share, share)

    def events(self) -> SyncEventStream:
        """Every worker's and producer's events from now on. See :meth:`Producer.events`."""
        return SyncEventStream(self._client)
