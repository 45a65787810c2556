"""Looking at jobs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

from jobqueue.states import TERMINAL, JobState
from jobqueue.storage.memory.queue import DELAYED, MemoryQueue
from jobqueue.storage.memory.rows import Row
from jobqueue.storage.types import StoredJob, StoredResult


def _stored(row: Row) -> StoredJob:
    return replace(row.job, cancel_requested=row.cancel_value is not None)


def get(queue: MemoryQueue, ids: Sequence[str], now: int) -> list[StoredJob | None]:
    queue.prune(now)
    rows = [queue.jobs.get(id) for id in ids]
    return [None if row is None else _stored(row) for row in rows]


def delayed(
    queue: MemoryQueue, limit: int, after: tuple[int, str] | None, now: int
) -> list[StoredJob]:
    queue.prune(now)
    places = (
        (_place(row.job.due_ms, row.job.id), row)
        for row in queue.jobs.values()
        if row.job.state in DELAYED
    )
    if after is not None:
        last = _place(*after)
        places = ((place, row) for place, row in places if place > last)
    first = heapq.nsmallest(limit, places, key=lambda entry: entry[0])
    return [_stored(row) for _, row in first]


def _place(due: int, id: str) -> tuple[int, bytes]:
    return due, id.encode()


def results(
    queue: MemoryQueue, ids: Sequence[str], reply_to: str | None, now: int
) -> list[StoredResult | None]:
    queue.prune(now)
    answers: list[StoredResult | None] = []
    for id in ids:
        row = queue.jobs.get(id)
        if row is None:
            answers.append(None)
        elif row.job.state in TERMINAL:
            answers.append(StoredResult(row.job.state, row.job.value))
        else:
            row.remember(reply_to)
            answers.append(StoredResult(row.job.state, None))
    return answers


def counts(queue: MemoryQueue, now: int) -> dict[JobState, int]:
    queue.prune(now)
    return {state: queue.states[state] for state in JobState}
