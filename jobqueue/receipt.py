"""What goes into an enqueue and what comes out: job specs, receipts."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from jobqueue.job import JobInfo
from jobqueue.options import NO_OPTIONS, JobOptions
from jobqueue.states import EnqueueStatus, JobState
from jobqueue.storage.types import StoredResult
from jobqueue.values import Seconds

R_co = TypeVar("R_co", covariant=True)


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
        id: Of the job that this is about: the one that was to be stored, or the one that is there
            in its place (of the same id, or the same for ``unique``, ``throttle``, ``debounce`` or
            ``keep_last``).
        status: ``"queued"``; ``"duplicate"`` (that job is there, nothing was stored);
            ``"completed"`` (that job has a result already, nothing will run); or ``"replaced"``
            (that job waits, and has the new payload now).
        state: That job's state at that moment.
    """

    __slots__ = ("_source", "_value", "id", "state", "status")

    def __init__(
        self,
        source: ResultSource,
        id: str,
        status: EnqueueStatus,
        state: JobState,
        value: bytes | None = None,
    ) -> None:
        self.id = id
        self.status = status
        self.state = state
        self._value = value
        self._source = source

    async def result(self, wait: Seconds | None = None) -> R_co:
        """The job's result, as soon as there is one.

        Args:
            wait: Seconds to wait at most. Default: as long as it takes.

        Raises:
            JobFailed: It failed for good.
            JobCancelled: It was cancelled.
            JobExpired: It was not started in time.
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
        return Receipt(source, self.id, self.status, self.state, self._value)

    def __repr__(self) -> str:
        return f"<Receipt {self.id!r} {self.status} ({self.state})>"
