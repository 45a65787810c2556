"""Unique keys: which job is there, whether it counts, and taking its place."""

from __future__ import annotations

from collections import deque

from jobqueue.flow import Unique, UniqueUntil
from jobqueue.states import TERMINAL, EnqueueStatus, JobState
from jobqueue.storage.memory.queue import MemoryQueue, due_of
from jobqueue.storage.memory.rows import KEPT_REPLACERS, Row
from jobqueue.storage.types import Enqueued, NewJob


def counts(row: Row, unique: Unique, now: int) -> bool:
    """Whether the job that is there keeps others away that come with this rule."""
    match unique.until:
        case UniqueUntil.STARTED:
            return row.has_not_started
        case UniqueUntil.FINISHED:
            return row.job.state not in TERMINAL
        case UniqueUntil.ELAPSED:
            return now < row.job.enqueued_ms + unique.window_ms


def was_replaced_by(row: Row, new: NewJob) -> bool:
    """This very request took its place before."""
    return row.replacers is not None and _token(new) in row.replacers


def replace(queue: MemoryQueue, row: Row, new: NewJob, unique: Unique, now: int) -> None:
    """Give the job that waits what the new one brings."""
    if row.replacers is None:
        row.replacers = deque(maxlen=KEPT_REPLACERS)
    row.replacers.append(_token(new))
    row.update(spec=new.spec, ttl_ms=new.ttl_ms)
    if row.job.state is JobState.SCHEDULED:
        due = due_of(new, now)
        if unique.max_wait_ms:
            due = min(due, row.job.enqueued_ms + unique.max_wait_ms)
        queue.reschedule(row, due, now)


def replaced(row: Row, new: NewJob) -> Enqueued:
    if row.job.state not in TERMINAL:
        row.remember(new.reply_to)
    return Enqueued(EnqueueStatus.REPLACED, row.job.state, None, row.job.id)


def _token(new: NewJob) -> str:
    return new.request or new.id
