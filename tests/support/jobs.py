"""Short ways to say what the storage tests do: jobs, claims, outcomes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jobqueue.flow import Flow
from jobqueue.ids import new_job_id, new_token
from jobqueue.outcome import Outcome
from jobqueue.states import CancelResult, EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import (
    Claim,
    ClaimRequest,
    Enqueued,
    Held,
    NewJob,
    Settlement,
    StoredJob,
    StoredResult,
)

QUEUE: Final = "q"
WORKER: Final = "w1"
SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
LEASE: Final = 30 * SECOND


def new_job(
    id: str | None = None,
    *,
    name: str = "task",
    spec: bytes = b"spec",
    delay_ms: int = 0,
    due_ms: int = 0,
    ttl_ms: int = 0,
    request: str | None = None,
    reply_to: str | None = None,
    flow: Flow | None = None,
) -> NewJob:
    """A job of a request of its own, unless ``request`` says otherwise."""
    return NewJob(
        id=new_job_id() if id is None else id,
        name=name,
        spec=spec,
        delay_ms=delay_ms,
        due_ms=due_ms,
        ttl_ms=ttl_ms,
        request=new_token() if request is None else request,
        reply_to=reply_to,
        flow=flow,
    )


async def enqueue(storage: Storage, *jobs: str | NewJob, queue: str = QUEUE) -> list[Enqueued]:
    """Enqueue jobs in one batch; a plain id stands for a job with that id."""
    return await storage.enqueue(
        queue, [new_job(job) if isinstance(job, str) else job for job in jobs]
    )


async def claim(
    storage: Storage,
    count: int = 100,
    *,
    worker: str = WORKER,
    token: str | None = None,
    lease_ms: int = LEASE,
    block_ms: int = 0,
    queue: str = QUEUE,
) -> list[Claim]:
    """Claim with a new token, unless ``token`` is given."""
    request = ClaimRequest(
        worker=worker,
        count=count,
        token=new_token() if token is None else token,
        lease_ms=lease_ms,
        block_ms=block_ms,
    )
    return await storage.claim(queue, request)


async def claim_one(
    storage: Storage, *, worker: str = WORKER, lease_ms: int = LEASE, queue: str = QUEUE
) -> Claim:
    """Claim the one job that there must be to claim."""
    (claimed,) = await claim(storage, 1, worker=worker, lease_ms=lease_ms, queue=queue)
    return claimed


async def settle(
    storage: Storage,
    outcome: Outcome,
    *claims: Claim | Held,
    worker: str = WORKER,
    queue: str = QUEUE,
) -> list[bool]:
    """Finish claims with one outcome, in one call."""
    settlements = [Settlement(item.id, item.fence, outcome) for item in claims]
    return await storage.finish(queue, worker, settlements)


async def run_one(
    storage: Storage, outcome: Outcome, *, worker: str = WORKER, queue: str = QUEUE
) -> Claim:
    """Claim the next job and end it so."""
    claimed = await claim_one(storage, worker=worker, queue=queue)
    assert await settle(storage, outcome, claimed, worker=worker, queue=queue) == [True]
    return claimed


async def recover(
    storage: Storage,
    limit: int = 100,
    *,
    reaper: str = "reaper",
    lease_ms: int = LEASE,
    token: str | None = None,
    queue: str = QUEUE,
) -> list[Claim]:
    """Recover with a new token, unless ``token`` is given."""
    return await storage.recover(queue, reaper, limit, lease_ms, token or new_token())


async def cancel(
    storage: Storage,
    *ids: str,
    ttl_ms: int = HOUR,
    value: bytes = b"cancelled",
    request: str | None = None,
    queue: str = QUEUE,
) -> list[CancelResult]:
    """Cancel as a request of its own, unless ``request`` says otherwise."""
    return await storage.cancel(queue, list(ids), ttl_ms, value, request or new_token())


async def stored(storage: Storage, id: str, queue: str = QUEUE) -> StoredJob:
    """The job, which must be there."""
    (job,) = await storage.get(queue, [id])
    assert job is not None, f"there is no job {id!r}"
    return job


async def result(storage: Storage, id: str, queue: str = QUEUE) -> StoredResult | None:
    (answer,) = await storage.results(queue, [id])
    return answer


async def exists(storage: Storage, id: str, queue: str = QUEUE) -> bool:
    return await storage.get(queue, [id]) != [None]


def ids(items: Iterable[Claim]) -> list[str]:
    return [item.id for item in items]


def held(*claims: Claim) -> list[Held]:
    return [Held(item.id, item.fence) for item in claims]


def only(**numbers: int) -> dict[JobState, int]:
    """Counts in which every state that is not named is 0."""
    return {state: numbers.get(state.value, 0) for state in JobState}


def completed(value: bytes = b"result", *, ttl_ms: int = HOUR) -> Outcome:
    return Outcome(state=JobState.COMPLETED, event=EventType.COMPLETED, value=value, ttl_ms=ttl_ms)


def failed(value: bytes = b"error", *, ttl_ms: int = HOUR) -> Outcome:
    return Outcome(state=JobState.FAILED, event=EventType.FAILED, value=value, ttl_ms=ttl_ms)


def cancelled(value: bytes = b"gave up", *, ttl_ms: int = HOUR) -> Outcome:
    return Outcome(state=JobState.CANCELLED, event=EventType.CANCELLED, value=value, ttl_ms=ttl_ms)


def retrying(delay_ms: int = SECOND, *, value: bytes = b"last error") -> Outcome:
    return Outcome(
        state=JobState.RETRYING, event=EventType.RETRYING, delay_ms=delay_ms, value=value
    )


def snoozed(delay_ms: int = SECOND) -> Outcome:
    return Outcome(
        state=JobState.SCHEDULED, event=EventType.RELEASED, refund=True, delay_ms=delay_ms
    )


def released() -> Outcome:
    return Outcome(state=JobState.QUEUED, event=EventType.RELEASED, refund=True)


def requeued() -> Outcome:
    """What the reaper does with a job that has attempts left: at once, and charged."""
    return Outcome(state=JobState.QUEUED, event=EventType.RETRYING)
