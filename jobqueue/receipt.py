"""What goes into an enqueue and what comes out: call options, job specs, receipts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypedDict, TypeVar

from jobqueue.job import JobInfo
from jobqueue.options import NO_OPTIONS, JobOptions
from jobqueue.retry import Backoff
from jobqueue.states import EnqueueStatus, JobState
from jobqueue.storage.base import Enqueued, StoredResult
from jobqueue.values import Seconds

R_co = TypeVar("R_co", covariant=True)


class CallOptions(TypedDict, total=False):
    """The options of one call; :class:`~jobqueue.options.JobOptions` says what each means."""

    id: str
    delay: Seconds
    run_at: datetime
    timeout: Seconds | None
    max_attempts: int
    retry: Backoff
    result_ttl: Seconds
    wait: Seconds | None


class JobSpec(NamedTuple, Generic[R_co]):
    """A job that has not been enqueued: inert, immutable, to be passed to ``enqueue_many``.

    Attributes:
        name: Its job type.
        payload: What the handler gets.
        options: Options of this call.
    """

    name: str
    payload: Any = None
    options: JobOptions = NO_OPTIONS


class ResultSource(Protocol):
    """What a receipt asks for its job; the producer that made it."""

    async def result(self, id: str, *, wait: Seconds | None = None) -> Any: ...

    async def get(self, id: str) -> JobInfo | None: ...

    def open_result(self, id: str, ending: StoredResult) -> Any: ...


class Receipt(Generic[R_co]):
    """What an enqueue gives back.

    Attributes:
        id: The job's id.
        status: ``"queued"``, ``"duplicate"`` (the id was known, nothing was stored) or
            ``"completed"`` (the id already has a result, nothing will run).
        state: The job's state at that moment.
    """

    __slots__ = ("_source", "_value", "id", "state", "status")

    def __init__(self, source: ResultSource, id: str, answer: Enqueued) -> None:
        self.id = id
        self.status: EnqueueStatus = answer.status
        self.state: JobState = answer.state
        self._value = answer.value
        self._source = source

    async def result(self, wait: Seconds | None = None) -> R_co:
        """The job's result, as soon as there is one.

        Args:
            wait: Seconds to wait at most. Default: as long as it takes.

        Raises:
            JobFailed: It failed for good.
            JobCancelled: It was cancelled.
            JobNotFound: Its time to live is over.
            WaitTimeout: There is none within ``wait``; the job goes on.
        """
        if self._value is not None:
            return self._source.open_result(self.id, StoredResult(self.state, self._value))
        return await self._source.result(self.id, wait=wait)

    async def info(self) -> JobInfo | None:
        """What is stored about the job now, or ``None`` when it is forgotten."""
        return await self._source.get(self.id)

    def through(self, source: ResultSource) -> Receipt[R_co]:
        """The same receipt, asking another source."""
        return Receipt(source, self.id, Enqueued(self.status, self.state, self._value))

    def __repr__(self) -> str:
        return f"<Receipt {self.id!r} {self.status} ({self.state})>"
