"""The producer's side: enqueue, cancel, reschedule, clear."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from jobqueue.flow import Refusal, StoredSchedule
from jobqueue.states import (
    TERMINAL,
    CancelResult,
    EnqueueStatus,
    EventType,
    JobState,
    RescheduleResult,
)
from jobqueue.storage.memory import unique
from jobqueue.storage.memory.queue import DELAYED, MemoryQueue, due_of
from jobqueue.storage.memory.rows import Row, inline
from jobqueue.storage.types import CONTROL, CancelRequested, Enqueued, NewJob, StoredJob


def enqueue(queue: MemoryQueue, jobs: Sequence[NewJob], now: int) -> list[Enqueued]:
    queue.prune(now)
    return [_enqueue_one(queue, job, now) for job in jobs]


def put_schedule(
    queue: MemoryQueue, schedule: StoredSchedule, jobs: Sequence[NewJob], now: int
) -> bool:
    stored = queue.schedules.put(schedule)
    if stored:
        queue.prune(now)
        for job in jobs:
            _enqueue_one(queue, job, now, always=True)
    return stored is not False


def _enqueue_one(queue: MemoryQueue, new: NewJob, now: int, *, always: bool = False) -> Enqueued:
    row = queue.jobs.get(new.id)
    if row is not None:
        if row.request == new.request:
            return Enqueued(EnqueueStatus.QUEUED, row.job.state, None)
        if row.job.state is not JobState.CANCELLED:
            return _known(row, new)
    kept_away = _held_against_its_key(queue, new, now)
    if kept_away is not None:
        return kept_away
    refusal = None if always else _refusal(queue)
    if refusal is not None:
        return Enqueued(refusal, JobState.QUEUED, None)
    # The cancel of the last one may come once more; it is not this job's.
    return _store(queue, new, None if row is None else row.cancel_request, now)


def _known(row: Row, new: NewJob) -> Enqueued:
    state = row.job.state
    if state not in TERMINAL:
        row.remember(new.reply_to)
        return Enqueued(EnqueueStatus.DUPLICATE, state, None)
    status = EnqueueStatus.COMPLETED if state is JobState.COMPLETED else EnqueueStatus.DUPLICATE
    return Enqueued(status, state, inline(row.job.value))


def _held_against_its_key(queue: MemoryQueue, new: NewJob, now: int) -> Enqueued | None:
    """The answer, if a job of the same unique key keeps this one away."""
    rule = None if new.flow is None else new.flow.unique
    row = None if rule is None else queue.under_key(rule.key)
    if rule is None or row is None:
        return None
    if unique.was_replaced_by(row, new):
        return unique.replaced(row, new)
    if not unique.counts(row, rule, now):
        return None
    if rule.replace:
        unique.replace(queue, row, new, rule, now)
        return unique.replaced(row, new)
    other_id = "" if row.job.id == new.id else row.job.id
    return _known(row, new)._replace(other_id=other_id)


def _refusal(queue: MemoryQueue) -> Refusal | None:
    if queue.control.draining:
        return Refusal.DRAINING
    waiting = queue.states[JobState.SCHEDULED] + queue.states[JobState.QUEUED]
    return Refusal.FULL if 0 < queue.control.max_waiting <= waiting else None


def _store(queue: MemoryQueue, new: NewJob, cancel_request: str | None, now: int) -> Enqueued:
    due = due_of(new, now)
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
        flow=new.flow,
    )
    row = Row(job, new.request, cancel_request=cancel_request)
    row.remember(new.reply_to)
    queue.add(row)
    if state is JobState.SCHEDULED:
        queue.delay(row, due)
    else:
        queue.lines.to_tail(row)
    queue.bus.wake_all()
    queue.tell(row, EventType.ENQUEUED, now, "")
    return Enqueued(EnqueueStatus.QUEUED, state, None)


def cancel(
    queue: MemoryQueue, ids: Sequence[str], ttl_ms: int, value: bytes, request: str, now: int
) -> list[CancelResult]:
    queue.prune(now)
    answers = [_cancel_one(queue, id, ttl_ms, value, request, now) for id in ids]
    queue.call_back(now)
    return answers


def _cancel_one(
    queue: MemoryQueue, id: str, ttl_ms: int, value: bytes, request: str, now: int
) -> CancelResult:
    row = queue.jobs.get(id)
    if row is None:
        return CancelResult.NOT_FOUND
    if row.cancel_request == request:
        was_running = row.cancel_value is not None
        return CancelResult.RUNNING if was_running else CancelResult.CANCELLED
    if row.job.state in TERMINAL:
        return CancelResult.FINISHED
    if row.job.state is JobState.RUNNING:
        if not row.job.ttl_ms:
            row.update(ttl_ms=ttl_ms)
        if row.cancel_value is None:
            row.cancel_value, row.cancel_request = value, request
        queue.bus.publish(CONTROL, CancelRequested(id))
        return CancelResult.RUNNING
    row.cancel_request = request
    _cancel_waiting(queue, row, ttl_ms, value, now)
    return CancelResult.CANCELLED


def _cancel_waiting(queue: MemoryQueue, row: Row, ttl_ms: int, value: bytes, now: int) -> None:
    if not row.job.ttl_ms:
        row.update(ttl_ms=ttl_ms)
    queue.withdraw(row)
    queue.end(row, JobState.CANCELLED, value, row.job.ttl_ms, now)
    queue.tell(row, EventType.CANCELLED, now, "")


def reschedule(
    queue: MemoryQueue, ids: Sequence[str], due: int, now: int
) -> list[RescheduleResult]:
    queue.prune(now)
    return [_reschedule_one(queue, id, due, now) for id in ids]


def _reschedule_one(queue: MemoryQueue, id: str, due: int, now: int) -> RescheduleResult:
    row = queue.jobs.get(id)
    if row is None:
        return RescheduleResult.NOT_FOUND
    if row.job.state in TERMINAL:
        return RescheduleResult.FINISHED
    if row.job.state in DELAYED:
        queue.reschedule(row, due, now)
        return RescheduleResult.UPDATED
    running = row.job.state is JobState.RUNNING
    return RescheduleResult.RUNNING if running else RescheduleResult.QUEUED


def clear(queue: MemoryQueue, limit: int, ttl_ms: int, value: bytes, now: int) -> int:
    queue.prune(now)
    waiting = (JobState.QUEUED, *DELAYED)
    rows = list(islice((row for row in queue.jobs.values() if row.job.state in waiting), limit))
    for row in rows:
        _cancel_waiting(queue, row, ttl_ms, value, now)
    queue.call_back(now)
    return len(rows)
