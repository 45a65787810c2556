"""The worker's side: claim, heartbeat, finish, recover."""

from __future__ import annotations

from collections.abc import Sequence

from jobqueue.outcome import Outcome
from jobqueue.states import TERMINAL, EventType, JobState
from jobqueue.storage.memory.queue import MemoryQueue
from jobqueue.storage.memory.rows import Row
from jobqueue.storage.types import (
    MAX_BATCH,
    MAX_CLAIM_BYTES,
    Claim,
    ClaimRequest,
    HeartbeatAnswer,
    Held,
    Settlement,
)


def claim(queue: MemoryQueue, request: ClaimRequest, now: int) -> list[Claim]:
    queue.prune(now)
    queue.workers[request.worker] = now + request.lease_ms
    replay = _replay(queue, request.worker, request.token)
    if replay is not None:
        return [row.claim(request.worker) for row, _ in replay]
    queue.advance(now, MAX_BATCH)
    claims: list[Claim] = []
    size = 0
    room = 0 if queue.control.paused else queue.limits.room(now, request.count)
    while len(claims) < room and size < MAX_CLAIM_BYTES:
        row = _next_to_start(queue, now)
        if row is None:
            break
        size += len(row.job.spec)
        if claims and size > MAX_CLAIM_BYTES:
            break
        claims.append(_start(queue, row, request, now))
    if claims:
        queue.claims[request.worker] = (request.token, claims)
    return claims


def _next_to_start(queue: MemoryQueue, now: int) -> Row | None:
    """The first whose limits let it start; those in front of it that may not wait elsewhere."""
    while True:
        row = queue.lines.first(queue.control.low_every)
        if row is None:
            # Who lost his place with one limit to another has made room for the next one.
            if not queue.call_back(now):
                return None
        elif row.has_not_started and 0 < row.ends_unstarted_ms <= now:
            queue.expire(row, now)
        elif (lane := queue.limits.who_refuses(row, now)) is not None:
            queue.lines.take(row)
            queue.limits.hold(row, lane)
        else:
            return row


def _start(queue: MemoryQueue, row: Row, request: ClaimRequest, now: int) -> Claim:
    queue.lines.take(row)
    queue.lines.count_start(row, queue.control.low_every)
    queue.limits.start(row, now)
    queue.enter(
        row,
        JobState.RUNNING,
        fence=queue.next_fence(),
        attempt=row.job.attempt + 1,
        worker=request.worker,
        started_ms=now,
        due_ms=0,
    )
    row.lease_until = now + request.lease_ms
    queue.running.add(row.job.id)
    queue.tell(row, EventType.STARTED, now, request.worker)
    return row.claim(request.worker)


def _replay(queue: MemoryQueue, worker: str, token: str) -> list[tuple[Row, Claim]] | None:
    """What is still held of the last claim, and how it was answered, if that is its token."""
    last_token, claims = queue.claims.get(worker, ("", []))
    if token != last_token:
        return None
    rows = [(_holding(queue, Held(claim.id, claim.fence)), claim) for claim in claims]
    return [(row, claim) for row, claim in rows if row is not None]


def _holding(queue: MemoryQueue, lease: Held) -> Row | None:
    row = queue.jobs.get(lease.id)
    running = row is not None and row.job.state is JobState.RUNNING
    return row if row and running and row.job.fence == lease.fence else None


def finish(
    queue: MemoryQueue, worker: str, settlements: Sequence[Settlement], now: int
) -> list[bool]:
    queue.prune(now)
    released: list[Row] = []
    answers: list[bool] = []
    for id, fence, outcome in settlements:
        row = _holding(queue, Held(id, fence))
        if row is None:
            stale = queue.jobs.get(id)
            answers.append(stale is not None and stale.settled_fence == fence)
            continue
        _settle(queue, row, outcome, now, worker)
        if row.job.state is JobState.QUEUED:
            released.append(row)
        answers.append(True)
    # In this order: what is given back is in front even of what it held back.
    queue.call_back(now)
    queue.lines.to_head(released)
    if released or queue.limits.in_force:
        queue.bus.wake_all()
    return answers


def _settle(queue: MemoryQueue, row: Row, outcome: Outcome, now: int, worker: str) -> None:
    row.settled_fence = row.job.fence
    queue.running.discard(row.job.id)
    queue.limits.end(row)
    if outcome.refund:
        row.update(attempt=row.job.attempt - 1)
    if outcome.state in TERMINAL:
        queue.end(row, outcome.state, outcome.value, outcome.ttl_ms, now)
        queue.tell(row, outcome.event, now, worker)
    elif row.cancel_value is not None:
        queue.end(row, JobState.CANCELLED, row.cancel_value, row.job.ttl_ms, now)
        queue.tell(row, EventType.CANCELLED, now, worker)
    else:
        queue.enter(row, outcome.state, value=outcome.value, worker="")
        if outcome.state is not JobState.QUEUED:
            queue.delay(row, now + outcome.delay_ms)
        queue.tell(row, outcome.event, now, worker)


def heartbeat(
    queue: MemoryQueue, worker: str, held: Sequence[Held], lease_ms: int, now: int
) -> HeartbeatAnswer:
    queue.prune(now)
    queue.workers[worker] = now + lease_ms
    answer = HeartbeatAnswer([], [])
    for lease in held:
        row = _holding(queue, lease)
        if row is None:
            answer.lost.append(lease.id)
            continue
        row.lease_until = max(row.lease_until, now + lease_ms)
        if row.cancel_value is not None:
            answer.cancel_requested.append(lease.id)
    return answer


def recover(
    queue: MemoryQueue, reaper: str, limit: int, lease_ms: int, token: str, now: int
) -> list[Claim]:
    queue.prune(now)
    replay = _replay(queue, reaper, token)
    if replay is not None:
        return [_taken_over(row, claim.worker) for row, claim in replay]
    for worker in [name for name, until in queue.workers.items() if until <= now]:
        leave(queue, worker)
    expired = [row for id in queue.running if (row := queue.jobs[id]).lease_until <= now]
    expired.sort(key=lambda row: (row.lease_until, row.job.fence))
    claims: list[Claim] = []
    for row in expired[:limit]:
        lost_by = row.job.worker
        row.update(fence=queue.next_fence(), worker=reaper)
        row.lease_until = now + lease_ms
        queue.tell(row, EventType.STALLED, now, lost_by)
        claims.append(_taken_over(row, lost_by))
    if claims:
        queue.workers[reaper] = now + lease_ms
        queue.claims[reaper] = (token, claims)
    return claims


def _taken_over(row: Row, lost_by: str) -> Claim:
    return row.claim(lost_by, cancel_requested=row.cancel_value is not None)


def leave(queue: MemoryQueue, worker: str) -> None:
    queue.workers.pop(worker, None)
    queue.claims.pop(worker, None)
