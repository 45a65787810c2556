"""What is done to a queue rather than to one job: upkeep, control, limits, forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from jobqueue.flow import OPEN, Control, Limit, LimitScope
from jobqueue.states import TERMINAL, JobState, TtlResult
from jobqueue.storage.memory.limits import Limits
from jobqueue.storage.memory.queue import MemoryQueue
from jobqueue.storage.memory.schedules import ScheduleBook

_FLAGS: Final = {"paused": bool, "draining": bool}


def promote(queue: MemoryQueue, limit: int, now: int) -> int | None:
    queue.advance(now, limit)
    return queue.next_ms(now)


def prune(queue: MemoryQueue, limit: int, now: int) -> int:
    queue.limits.tidy(now)
    return queue.prune(now, limit)


def set_result_ttl(
    queue: MemoryQueue, ids: Sequence[str], ttl_ms: int, now: int
) -> list[TtlResult]:
    queue.prune(now)
    answers: list[TtlResult] = []
    for id in ids:
        row = queue.jobs.get(id)
        if row is None:
            answers.append(TtlResult.NOT_FOUND)
        elif row.job.state not in TERMINAL:
            answers.append(TtlResult.NOT_FINISHED)
        else:
            queue.keep_until(row, now + ttl_ms)
            answers.append(TtlResult.UPDATED)
    return answers


def control(queue: MemoryQueue, changes: Mapping[str, int] | None) -> Control:
    if changes:
        kept = {name: _FLAGS.get(name, int)(value) for name, value in changes.items()}
        queue.control = replace(queue.control, **kept)
        queue.bus.wake_all()
    return queue.control


def set_limit(queue: MemoryQueue, scope: LimitScope, limit: Limit | None, now: int) -> None:
    running = [queue.jobs[id] for id in queue.running]
    queue.lines.to_head(queue.limits.set(scope, limit, running))
    queue.call_back(now)
    queue.bus.wake_all()


def obliterate(queue: MemoryQueue, limit: int, now: int) -> int:
    queue.prune(now)
    rows = list(islice(queue.jobs.values(), limit))
    for row in rows:
        if row.job.state is JobState.RUNNING:
            queue.running.discard(row.job.id)
            queue.limits.end(row)
        queue.withdraw(row)
        queue.forget(row)
    if not queue.jobs and not rows:
        queue.control, queue.limits, queue.schedules = OPEN, Limits(), ScheduleBook()
    queue.call_back(now)
    queue.bus.wake_all()
    return len(rows)
