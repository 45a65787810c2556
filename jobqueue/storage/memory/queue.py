"""One queue in plain dicts: the rules of the storage port, without waiting and without threads.

The other storages are held against this one, so it favours being obviously right.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from jobqueue.outcome import Outcome
from jobqueue.states import (
    TERMINAL,
    CancelResult,
    EnqueueStatus,
    EventType,
    JobState,
    TtlResult,
)
from jobqueue.storage.base import (
    CONTROL,
    EVENTS,
    INLINE_BYTES,
    MAX_BATCH,
    MAX_CLAIM_BYTES,
    CancelRequested,
    Claim,
    ClaimRequest,
    Enqueued,
    HeartbeatAnswer,
    Held,
    NewJob,
    Reply,
    Settlement,
    StorageEvent,
    StoredJob,
    StoredResult,
    replies,
)
from jobqueue.storage.memory.bus import Bus

_WAITING = (JobState.SCHEDULED, JobState.RETRYING)


@dataclass(slots=True)
class _Row:
    job: StoredJob
    request: str
    order: int = 0
    """Names the row's one valid entry in the delayed heap."""
    lease_until: int = 0
    settled_fence: int = 0
    cancel_value: bytes | None = None
    cancel_request: str | None = None
    reply_to: list[str] = field(default_factory=lambda: list[str]())

    def update(self, **changes: object) -> None:
        self.job = replace(self.job, **changes)  # pyright: ignore[reportArgumentType] - checked by the dataclass


class MemoryQueue:
    """The jobs of one queue. Every method is one atomic step when called under one lock."""

    def __init__(self) -> None:
        self.bus = Bus()
        self._jobs: dict[str, _Row] = {}
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._delayed: list[tuple[int, int, str]] = []
        self._running: set[str] = set()
        self._expiring: list[tuple[int, str]] = []
        self._workers: dict[str, int] = {}
        self._claims: dict[str, tuple[str, list[Claim]]] = {}
        self._fence = 0
        self._order = count(1)

    # -- enqueue ---------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob], now: int) -> list[Enqueued]:
        self.prune(now)
        return [self._enqueue_one(job, now) for job in jobs]

    def _enqueue_one(self, job: NewJob, now: int) -> Enqueued:
        row = self._jobs.get(job.id)
        if row is None or (row.job.state is JobState.CANCELLED and job.request != row.request):
            # The cancel of the last one may come once more; it is not this job's.
            return self._store(job, None if row is None else row.cancel_request, now)
        state = row.job.state
        if row.request == job.request:
            return Enqueued(EnqueueStatus.QUEUED, state, None)
        if state not in TERMINAL:
            _remember(row, job.reply_to)
            return Enqueued(EnqueueStatus.DUPLICATE, state, None)
        status = EnqueueStatus.COMPLETED if state is JobState.COMPLETED else EnqueueStatus.DUPLICATE
        return Enqueued(status, state, _inline(row.job.value))

    def _store(self, new: NewJob, cancel_request: str | None, now: int) -> Enqueued:
        due = new.due_ms or (now + new.delay_ms if new.delay_ms else 0)
        state = JobState.SCHEDULED if due > now else JobState.QUEUED
        job = StoredJob(
            id=new.id,
            name=new.name,
            spec=new.spec,
            state=state,
            attempt=0,
            fence=0,
            enqueued_ms=now,
            ttl_ms=new.ttl_ms,
        )
        row = self._jobs[new.id] = _Row(job, new.request, cancel_request=cancel_request)
        _remember(row, new.reply_to)
        if state is JobState.SCHEDULED:
            self._delay(row, due)
        else:
            self._ready[new.id] = None
        self.bus.wake_all()
        self._tell(row, EventType.ENQUEUED, now, "")
        return Enqueued(EnqueueStatus.QUEUED, state, None)

    def _delay(self, row: _Row, due: int) -> None:
        row.update(due_ms=due)
        row.order = next(self._order)
        heapq.heappush(self._delayed, (due, row.order, row.job.id))

    # -- claim -----------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest, now: int) -> list[Claim]:
        self.prune(now)
        self._workers[request.worker] = now + request.lease_ms
        replay = self._replay(request.worker, request.token)
        if replay is not None:
            return [_claim_of(row, request.worker) for row, _ in replay]
        self.promote(now, MAX_BATCH)
        claims: list[Claim] = []
        size = 0
        while self._ready and len(claims) < request.count and size < MAX_CLAIM_BYTES:
            row = self._jobs[next(iter(self._ready))]
            size += len(row.job.spec)
            if claims and size > MAX_CLAIM_BYTES:
                break
            del self._ready[row.job.id]
            claims.append(self._lease(row, request, now))
        if claims:
            self._claims[request.worker] = (request.token, claims)
        return claims

    def _replay(self, worker: str, token: str) -> list[tuple[_Row, Claim]] | None:
        """What is still held of the last claim, and how it was answered, if that is its token."""
        last_token, claims = self._claims.get(worker, ("", []))
        if token != last_token:
            return None
        rows = [(self._holding(Held(claim.id, claim.fence)), claim) for claim in claims]
        return [(row, claim) for row, claim in rows if row is not None]

    def _lease(self, row: _Row, request: ClaimRequest, now: int) -> Claim:
        self._fence += 1
        row.update(
            state=JobState.RUNNING,
            fence=self._fence,
            attempt=row.job.attempt + 1,
            worker=request.worker,
            started_ms=now,
            due_ms=0,
        )
        row.lease_until = now + request.lease_ms
        self._running.add(row.job.id)
        self._tell(row, EventType.STARTED, now, request.worker)
        return _claim_of(row, request.worker)

    def promote(self, now: int, limit: int) -> int | None:
        promoted = False
        while self._delayed:
            due, order, id = self._delayed[0]
            row = self._jobs.get(id)
            if row is None or row.order != order or row.job.state not in _WAITING:
                heapq.heappop(self._delayed)
                continue
            if due > now or limit <= 0:
                break
            heapq.heappop(self._delayed)
            limit -= 1
            row.update(state=JobState.QUEUED, due_ms=0)
            self._ready[id] = None
            promoted = True
        if promoted:
            self.bus.wake_all()
        return max(0, self._delayed[0][0] - now) if self._delayed else None

    def _holding(self, lease: Held) -> _Row | None:
        row = self._jobs.get(lease.id)
        running = row is not None and row.job.state is JobState.RUNNING
        return row if row and running and row.job.fence == lease.fence else None

    # -- finish, heartbeat, recover --------------------------------------------------------------

    def finish(self, worker: str, settlements: Sequence[Settlement], now: int) -> list[bool]:
        self.prune(now)
        released: list[str] = []
        answers: list[bool] = []
        for id, fence, outcome in settlements:
            row = self._holding(Held(id, fence))
            if row is None:
                stale = self._jobs.get(id)
                answers.append(stale is not None and stale.settled_fence == fence)
                continue
            self._settle(row, outcome, now, worker)
            if row.job.state is JobState.QUEUED:
                released.append(id)
            answers.append(True)
        for id in reversed(released):
            self._ready[id] = None
            self._ready.move_to_end(id, last=False)
        if released:
            self.bus.wake_all()
        return answers

    def _settle(self, row: _Row, outcome: Outcome, now: int, worker: str) -> None:
        row.settled_fence = row.job.fence
        self._running.discard(row.job.id)
        if outcome.refund:
            row.update(attempt=row.job.attempt - 1)
        if outcome.state in TERMINAL:
            self._end(row, outcome.state, outcome.value, outcome.ttl_ms, now)
            self._tell(row, outcome.event, now, worker)
        elif row.cancel_value is not None:
            self._end(row, JobState.CANCELLED, row.cancel_value, row.job.ttl_ms, now)
            self._tell(row, EventType.CANCELLED, now, worker)
        else:
            row.update(state=outcome.state, value=outcome.value, worker="")
            if outcome.state is not JobState.QUEUED:
                self._delay(row, now + outcome.delay_ms)
                self.bus.wake_all()
            self._tell(row, outcome.event, now, worker)

    def _end(self, row: _Row, state: JobState, value: bytes, ttl_ms: int, now: int) -> None:
        row.update(state=state, value=value, finished_ms=now, expires_ms=now + ttl_ms, due_ms=0)
        heapq.heappush(self._expiring, (row.job.expires_ms, row.job.id))
        for address in row.reply_to:
            self.bus.publish(replies(address), Reply(row.job.id, state, _inline(value)))
        row.reply_to = []

    def heartbeat(
        self, worker: str, held: Sequence[Held], lease_ms: int, now: int
    ) -> HeartbeatAnswer:
        self.prune(now)
        self._workers[worker] = now + lease_ms
        answer = HeartbeatAnswer([], [])
        for lease in held:
            row = self._holding(lease)
            if row is None:
                answer.lost.append(lease.id)
                continue
            row.lease_until = max(row.lease_until, now + lease_ms)
            if row.cancel_value is not None:
                answer.cancel_requested.append(lease.id)
        return answer

    def recover(self, reaper: str, limit: int, lease_ms: int, token: str, now: int) -> list[Claim]:
        self.prune(now)
        replay = self._replay(reaper, token)
        if replay is not None:
            return [_taken_over(row, claim.worker) for row, claim in replay]
        for worker in [name for name, until in self._workers.items() if until <= now]:
            self.leave(worker)
        expired = [row for id in self._running if (row := self._jobs[id]).lease_until <= now]
        expired.sort(key=lambda row: (row.lease_until, row.job.fence))
        claims: list[Claim] = []
        for row in expired[:limit]:
            lost_by = row.job.worker
            self._fence += 1
            row.update(fence=self._fence, worker=reaper)
            row.lease_until = now + lease_ms
            self._tell(row, EventType.STALLED, now, lost_by)
            claims.append(_taken_over(row, lost_by))
        if claims:
            self._workers[reaper] = now + lease_ms
            self._claims[reaper] = (token, claims)
        return claims

    def leave(self, worker: str) -> None:
        self._workers.pop(worker, None)
        self._claims.pop(worker, None)

    # -- cancel, reads ---------------------------------------------------------------------------

    def cancel(
        self, ids: Sequence[str], ttl_ms: int, value: bytes, request: str, now: int
    ) -> list[CancelResult]:
        self.prune(now)
        return [self._cancel_one(id, ttl_ms, value, request, now) for id in ids]

    def _cancel_one(
        self, id: str, ttl_ms: int, value: bytes, request: str, now: int
    ) -> CancelResult:
        row = self._jobs.get(id)
        if row is None:
            return CancelResult.NOT_FOUND
        if row.cancel_request == request:
            was_running = row.cancel_value is not None
            return CancelResult.RUNNING if was_running else CancelResult.CANCELLED
        if row.job.state in TERMINAL:
            return CancelResult.FINISHED
        if not row.job.ttl_ms:
            row.update(ttl_ms=ttl_ms)
        if row.job.state is JobState.RUNNING:
            if row.cancel_value is None:
                row.cancel_value, row.cancel_request = value, request
            self.bus.publish(CONTROL, CancelRequested(id))
            return CancelResult.RUNNING
        row.cancel_request = request
        self._ready.pop(id, None)
        self._end(row, JobState.CANCELLED, value, row.job.ttl_ms, now)
        self._tell(row, EventType.CANCELLED, now, "")
        return CancelResult.CANCELLED

    def get(self, ids: Sequence[str], now: int) -> list[StoredJob | None]:
        self.prune(now)
        rows = [self._jobs.get(id) for id in ids]
        return [
            None if row is None else replace(row.job, cancel_requested=row.cancel_value is not None)
            for row in rows
        ]

    def results(
        self, ids: Sequence[str], reply_to: str | None, now: int
    ) -> list[StoredResult | None]:
        self.prune(now)
        answers: list[StoredResult | None] = []
        for id in ids:
            row = self._jobs.get(id)
            if row is None:
                answers.append(None)
            elif row.job.state in TERMINAL:
                answers.append(StoredResult(row.job.state, row.job.value))
            else:
                _remember(row, reply_to)
                answers.append(StoredResult(row.job.state, None))
        return answers

    def set_result_ttl(self, ids: Sequence[str], ttl_ms: int, now: int) -> list[TtlResult]:
        self.prune(now)
        answers: list[TtlResult] = []
        for id in ids:
            row = self._jobs.get(id)
            if row is None:
                answers.append(TtlResult.NOT_FOUND)
            elif row.job.state not in TERMINAL:
                answers.append(TtlResult.NOT_FINISHED)
            else:
                row.update(expires_ms=now + ttl_ms)
                heapq.heappush(self._expiring, (row.job.expires_ms, id))
                answers.append(TtlResult.UPDATED)
        return answers

    def counts(self, now: int) -> dict[JobState, int]:
        self.prune(now)
        found = Counter(row.job.state for row in self._jobs.values())
        return {state: found[state] for state in JobState}

    def prune(self, now: int, limit: int | None = None) -> int:
        """Forget what has expired. Every verb starts with it, so nobody ever sees such a job."""
        pruned = 0
        while self._expiring and self._expiring[0][0] <= now and pruned != limit:
            _, id = heapq.heappop(self._expiring)
            row = self._jobs.get(id)
            if row is not None and row.job.state in TERMINAL and row.job.expires_ms <= now:
                del self._jobs[id]
                pruned += 1
        return pruned

    def _tell(self, row: _Row, type: EventType, now: int, worker: str) -> None:
        job = row.job
        self.bus.publish(EVENTS, StorageEvent(type, job.id, job.name, now, job.attempt, worker))


def _taken_over(row: _Row, lost_by: str) -> Claim:
    return _claim_of(row, lost_by, cancel_requested=row.cancel_value is not None)


def _remember(row: _Row, reply_to: str | None) -> None:
    if reply_to is not None and reply_to not in row.reply_to:
        row.reply_to.append(reply_to)


def _inline(value: bytes) -> bytes | None:
    return value if len(value) <= INLINE_BYTES else None


def _claim_of(row: _Row, worker: str, *, cancel_requested: bool = False) -> Claim:
    job = row.job
    return Claim(
        id=job.id,
        name=job.name,
        spec=job.spec,
        fence=job.fence,
        attempt=job.attempt,
        enqueued_ms=job.enqueued_ms,
        ttl_ms=job.ttl_ms,
        cancel_requested=cancel_requested,
        worker=worker,
    )
