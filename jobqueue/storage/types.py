"""What goes through the storage port: jobs, claims, outcomes, messages, and the sizes that bound
them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

from jobqueue.flow import Flow, Refusal
from jobqueue.outcome import Outcome
from jobqueue.states import EnqueueStatus, EventType, JobState

MAX_BATCH: Final = 500
INLINE_BYTES: Final = 64 * 1024
"""Values up to this size travel inside replies and answers; larger ones are fetched with
``Storage.results``."""
MAX_CLAIM_BYTES: Final = 8 * 1024 * 1024
"""A claim stops taking jobs once their specs reach this size (but always takes one)."""


class NewJob(NamedTuple):
    """A job to store.

    Attributes:
        id: Its id.
        name: Its job type.
        spec: Opaque bytes for the worker.
        delay_ms: Due this long after it is stored; 0 for at once.
        due_ms: Due at this moment; 0 for not given. One of the two at most.
        ttl_ms: How long to keep the finished job; 0 when the job itself says nothing.
        request: Token of this one enqueue, so that a replay is told from another caller; empty when
            the id itself was made for this request.
        reply_to: Address that is told when the job ends, or ``None``: a token without spaces.
        flow: When it may start, or ``None`` when it says nothing about that.
    """

    id: str
    name: str
    spec: bytes
    delay_ms: int = 0
    due_ms: int = 0
    ttl_ms: int = 0
    request: str = ""
    reply_to: str | None = None
    flow: Flow | None = None


class Enqueued(NamedTuple):
    """What became of one job of an enqueue.

    Attributes:
        status: What was done; a :class:`~jobqueue.flow.Refusal` when the queue takes nothing new.
        state: Of the job that the answer is about; of one that was refused always ``queued``.
        value: Result or error of one that has ended, or ``None`` when it is larger than
            :data:`INLINE_BYTES` or there is none.
        other_id: Id of the job that the answer is about, when that is another one (of the same
            unique key); else empty.
    """

    status: EnqueueStatus | Refusal
    state: JobState
    value: bytes | None
    other_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A wish for work.

    Attributes:
        worker: Who asks.
        count: Jobs at most, 1 to :data:`MAX_BATCH`.
        token: Name of this claim. The same token again means "I did not hear the answer".
        lease_ms: How long the jobs stay this worker's without a heartbeat.
        block_ms: How long to wait when there is nothing; 0 not to wait.
    """

    worker: str
    count: int
    token: str
    lease_ms: int
    block_ms: int = 0


class Claim(NamedTuple):
    """A job that is leased to somebody.

    Attributes:
        id: Its id.
        name: Its job type.
        spec: As stored.
        fence: Fencing token: larger for every later claim in this queue, never used twice.
        attempt: Attempts charged, this one included.
        enqueued_ms: When it was enqueued.
        ttl_ms: As in :class:`NewJob`.
        cancel_requested: From ``Storage.recover``: a stop was requested. From
            ``Storage.claim`` always false; heartbeats say it.
        worker: From ``Storage.recover``: who lost it. Else who holds it.
    """

    id: str
    name: str
    spec: bytes
    fence: int
    attempt: int
    enqueued_ms: int
    ttl_ms: int
    cancel_requested: bool
    worker: str


class Held(NamedTuple):
    """A lease, as its holder knows it."""

    id: str
    fence: int


class Settlement(NamedTuple):
    """An outcome for a lease."""

    id: str
    fence: int
    outcome: Outcome


class HeartbeatAnswer(NamedTuple):
    """Ids whose lease is lost, and ids that somebody asked to stop."""

    lost: list[str]
    cancel_requested: list[str]


class StoredResult(NamedTuple):
    """State of a job, with the value (result or error) once it has ended."""

    state: JobState
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """Everything that is stored about a job. Moments that have not come are 0."""

    id: str
    name: str
    spec: bytes
    state: JobState
    attempt: int
    fence: int
    enqueued_ms: int
    due_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    expires_ms: int = 0
    ttl_ms: int = 0
    worker: str = ""
    cancel_requested: bool = False
    value: bytes = b""
    flow: Flow | None = None


class Reply(NamedTuple):
    """A job that somebody waits for has ended. ``value`` is ``None`` when it is too large."""

    id: str
    state: JobState
    value: bytes | None


class StorageEvent(NamedTuple):
    """Something happened to a job."""

    type: EventType
    id: str
    name: str
    at_ms: int
    attempt: int
    worker: str


class CancelRequested(NamedTuple):
    """Somebody asked to stop a running job."""

    id: str


class Offer(NamedTuple):
    """A worker that has nothing to run would take one job at once.

    Attributes:
        for_ms: For that long.
        lease_ms: How long the job is the worker's without a heartbeat.
    """

    for_ms: int
    lease_ms: int


Message: TypeAlias = Reply | StorageEvent | CancelRequested | Claim
Sink: TypeAlias = Callable[[Sequence[Message] | None], None]
"""Called on the event loop with messages in order, or with ``None``: some may have been missed."""

EVENTS: Final = "events"
CONTROL: Final = "control"


def replies(address: str) -> str:
    """The topic on which the replies for an address arrive."""
    return f"reply:{address}"


def handed(worker: str) -> str:
    """The topic on which a worker gets the job that it offered to take."""
    return f"handed:{worker}"


class Subscription(Protocol):
    """What ``Storage.listen`` returns."""

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        ...
