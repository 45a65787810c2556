"""Every error of the library: one tree, stable codes, messages that say what to do.

Each error keeps its constructor arguments as ``args``, so all of them pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Why a job ended without a result. Plain text only: no type named here is ever imported.

    Attributes:
        type: Name of the exception's class, such as ``"ValueError"``.
        message: What it said.
        traceback: The traceback as text, or ``""``.
        attempts: Attempts that were charged.
        reason: Machine-readable cause: ``"exception"``, ``"timeout"``, ``"worker_lost"``,
            ``"no_handler"``, ``"undecodable"``, ``"unserialisable"``, ``"cancelled"`` or
            ``"expired"``.
    """

    type: str
    message: str
    traceback: str = ""
    attempts: int = 0
    reason: str = "exception"


class JobQueueError(Exception):
    """Root of the tree."""

    code: ClassVar[str] = "jobqueue_error"


class ConfigurationError(JobQueueError):
    """Something was set up in a way that cannot work; the message says how to mend it."""

    code = "configuration"


class StorageError(JobQueueError):
    """The storage refused or failed."""

    code = "storage"


class StorageUnavailable(StorageError):
    """The storage cannot be reached or cannot serve now. Retrying is safe and may help."""

    code = "storage_unavailable"


class AccessDenied(ConfigurationError, StorageError):
    """The storage refuses this user: its password, or a permission that it lacks.

    A worker that meets it at its start ends; one that is at work holds its outcomes and tries
    again, as in any outage.
    """

    code = "access_denied"


class ServerNotTrusted(ConfigurationError, StorageError):
    """The server shows a certificate that nobody whom the URL trusts has signed for this host.

    Nothing was sent. As with :class:`AccessDenied`, a worker that is at work tries again.
    """

    code = "server_not_trusted"


class SerializationError(JobQueueError):
    """A value cannot be turned into bytes, or bytes into a value."""

    code = "serialization"


class JobNotFound(JobQueueError):
    """No job has this id: it never existed, or its time to live is over."""

    code = "job_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"job {self.id!r} is not known: never enqueued, or its result_ttl is over"


class ScheduleNotFound(JobQueueError):
    """No schedule has this id."""

    code = "schedule_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return (
            f"schedule {self.id!r} is not known: never stored, or deleted; one that is declared in "
            "code is stored when a worker starts"
        )


class JobFailed(JobQueueError):
    """The job ended ``failed``.

    Attributes:
        id: The job.
        error: What happened, as text.
    """

    code = "job_failed"

    def __init__(self, id: str, error: JobError) -> None:
        super().__init__(id, error)
        self.id = id
        self.error = error

    def __str__(self) -> str:
        attempts = f"{self.error.attempts} attempt{'' if self.error.attempts == 1 else 's'}"
        return f"job {self.id!r} failed after {attempts}: {self.error.type}: {self.error.message}"


class JobCancelled(JobQueueError):
    """The job was cancelled."""

    code = "job_cancelled"

    def __init__(self, id: str, reason: str = "") -> None:
        super().__init__(id, reason)
        self.id = id
        self.reason = reason

    def __str__(self) -> str:
        return f"job {self.id!r} was cancelled" + (f": {self.reason}" if self.reason else "")


class JobExpired(JobCancelled):
    """The job was not started in time, and was dropped."""

    code = "job_expired"

    def __str__(self) -> str:
        return f"job {self.id!r} expired before it was started"


class WaitTimeout(JobQueueError, TimeoutError):
    """The caller stopped waiting. The job is not touched: it may still run and finish."""

    code = "wait_timeout"

    def __init__(self, id: str, wait: float) -> None:
        super().__init__(id, wait)
        self.id = id
        self.wait = wait

    def __str__(self) -> str:
        return (
            f"no result of job {self.id!r} within {self.wait:g} s; the job goes on: "
            "ask again with queue.result(id), or stop it with queue.cancel(id)"
        )


class LeaseLost(JobQueueError):
    """Another worker holds the job by now; what this one did with it no longer counts."""

    code = "lease_lost"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"the lease of job {self.id!r} was lost: it ran out, or the job was taken over"


class NotAccepted(JobQueueError):
    """The queue accepts no new jobs now. Nothing is stored, but for :attr:`receipts`.

    Attributes:
        queue: The queue's name.
        receipts: Of ``enqueue_many``: a receipt for each job in order, ``None`` for one that was
            not accepted. They are not pickled.
    """

    code = "not_accepted"
    receipts: Sequence[Any] = ()

    def __init__(self, queue: str, *args: Any) -> None:
        super().__init__(queue, *args)
        self.queue = queue

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self).items() if name != "receipts"}
        return type(self), self.args, state


class QueueFull(NotAccepted):
    """The queue has reached its limit of waiting jobs.

    Attributes:
        limit: Jobs that may wait, or ``None`` if that could not be found out.
        retry_after: Seconds after which to try again: about one, with jitter, so that not all
            producers come back at once.
    """

    code = "queue_full"

    def __init__(self, queue: str, limit: int | None, retry_after: float = 1.0) -> None:
        super().__init__(queue, limit, retry_after)
        self.limit = limit
        self.retry_after = retry_after

    def __str__(self) -> str:
        limit = "of" if self.limit is None else f"of {self.limit}"
        return (
            f"queue {self.queue!r} holds its limit {limit} waiting jobs; "
            f"try again in {self.retry_after:.1f} s"
        )


class QueueDraining(NotAccepted):
    """The queue is being drained: what is there is finished, nothing new is accepted."""

    code = "queue_draining"

    def __str__(self) -> str:
        return f"queue {self.queue!r} is draining and accepts no new jobs until queue.resume()"


class DrainTimeout(JobQueueError, TimeoutError):
    """The caller of ``drain`` stopped waiting. The queue goes on draining.

    Attributes:
        queue: The queue's name.
        wait: Seconds that were waited.
        remaining: Jobs that wait or run still.
        paused: The queue is paused, so that nothing starts.
    """

    code = "drain_timeout"

    def __init__(self, queue: str, wait: float, remaining: int, paused: bool = False) -> None:
        super().__init__(queue, wait, remaining, paused)
        self.queue = queue
        self.wait = wait
        self.remaining = remaining
        self.paused = paused

    def __str__(self) -> str:
        why = "; it is paused too, so that nothing starts: queue.resume()" if self.paused else ""
        return (
            f"queue {self.queue!r} still holds {self.remaining} jobs after {self.wait:g} s of "
            f"draining{why}"
        )
