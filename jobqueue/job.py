"""What users hold in their hands: a job inside its handler, and what is known about one outside."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from jobqueue.errors import JobError
from jobqueue.flow import Priority
from jobqueue.states import EventType, JobState


class Job:
    """The running job, as its handler sees it.

    Attributes:
        id: The job's id.
        name: Its job type.
        payload: What the producer sent; for typed jobs a map of parameter name to value.
        attempt: This attempt, 1-based.
        max_attempts: Attempts in total.
        queue: The queue's name.
        enqueued_at: When it was enqueued (UTC).
        deadline: When this attempt's time limit is over (UTC), or ``None``.
        cancel_requested: Somebody asked to stop this job, or its time is up. An async handler is
            cancelled by itself; a sync one should look here now and then.
    """

    __slots__ = (
        "_enqueued_ms",
        "attempt",
        "cancel_requested",
        "deadline",
        "id",
        "max_attempts",
        "name",
        "payload",
        "queue",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        payload: Any,
        attempt: int,
        max_attempts: int,
        queue: str,
        enqueued_ms: int,
        deadline: datetime | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.payload = payload
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.queue = queue
        self._enqueued_ms = enqueued_ms
        self.deadline = deadline
        self.cancel_requested = False

    @property
    def enqueued_at(self) -> datetime:
        """When it was enqueued (UTC)."""
        return from_ms(self._enqueued_ms)

    def __repr__(self) -> str:
        return f"<Job {self.name!r} id={self.id!r} attempt {self.attempt} of {self.max_attempts}>"


_current: Final[ContextVar[Job]] = ContextVar("jobqueue_current_job")


def current_job() -> Job:
    """The job whose handler is running here, also in the thread of a sync handler.

    Raises:
        LookupError: Not called from a handler.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError("current_job() works only inside a handler") from None


def set_current_job(job: Job) -> None:
    """Make ``job`` the current one of this context."""
    _current.set(job)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A stored job at one moment.

    Attributes:
        id: The job's id.
        name: Its job type.
        queue: The queue's name.
        state: Where it stands.
        payload: What the producer sent, or ``None`` when it cannot be decoded.
        raw: The stored spec as bytes, whether it can be decoded or not.
        attempt: Attempts charged so far.
        max_attempts: Attempts in total.
        enqueued_at: When it was enqueued (UTC).
        due_at: When a scheduled or retrying job is due (UTC), or ``None``.
        started_at: When the last attempt was claimed (UTC), or ``None``.
        finished_at: When it reached its terminal state (UTC), or ``None``.
        expires_at: When a finished job is forgotten (UTC), or ``None``.
        worker: Who runs it, or ran it last, or ``None``.
        cancel_requested: A stop of the running job has been requested.
        result: What the handler returned, once completed.
        error: Why it failed or was cancelled, or the last failure of a retrying job.
        priority: Its level.
        group: Its group, or ``None``.
        start_by: When it expires unless it has started by then (UTC), or ``None``.
        unique_key: What it has in common with those that it keeps away, or ``None``.
        limit: Name of the limit by key under which it falls, or ``None``.
        limit_key: Its key there, or ``None``.
    """

    id: str
    name: str
    queue: str
    state: JobState
    payload: Any
    raw: bytes
    attempt: int
    max_attempts: int
    enqueued_at: datetime
    due_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    worker: str | None = None
    cancel_requested: bool = False
    result: Any = None
    error: JobError | None = None
    priority: Priority = Priority.NORMAL
    group: str | None = None
    start_by: datetime | None = None
    unique_key: str | None = None
    limit: str | None = None
    limit_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a job, on any worker. A hint: events may be lost.

    Attributes:
        type: What happened.
        id: The job.
        name: Its job type.
        queue: The queue's name.
        at: When, by the storage's clock (UTC).
        attempt: Attempts charged so far.
        worker: Who did it, or ``None`` for a producer.
    """

    type: EventType
    id: str
    name: str
    queue: str
    at: datetime
    attempt: int
    worker: str | None = None


def from_ms(ms: int) -> datetime:
    """Milliseconds since the epoch as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def maybe_from_ms(ms: int | None) -> datetime | None:
    """Like :func:`from_ms`; ``None`` and 0 give ``None``."""
    return from_ms(ms) if ms else None
