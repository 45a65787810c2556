"""What operators do with a whole queue, and with jobs that wait for their time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from jobqueue.errors import ConfigurationError, DrainTimeout
from jobqueue.flow import Control
from jobqueue.ids import check_name
from jobqueue.job import JobInfo
from jobqueue.outcome import cancellation, encode_error
from jobqueue.producer import Producer
from jobqueue.states import JobState, RescheduleResult
from jobqueue.storage.types import MAX_BATCH
from jobqueue.values import Seconds, check_count, due_ms, to_ms

Progress: TypeAlias = Callable[[int], object]
"""Called with the number of jobs so far."""

CLEARED: Final = "cleared"
_LOOK_EVERY: Final = 0.05
_SELDOM: Final = 0.5
_MAX_LENGTH: Final = 1_000_000_000
_LARGEST_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueControl:
    """What holds for a whole queue.

    Attributes:
        paused: Workers start nothing.
        draining: Nothing new is accepted.
        max_length: Jobs that may wait (queued or scheduled) at a time; ``None`` for any number.
        low_share: Of the jobs that start while a ``low`` one could, at least this share is
            ``low``; ``None`` for strict priority.
    """

    paused: bool = False
    draining: bool = False
    max_length: int | None = None
    low_share: float | None = None


async def control(producer: Producer, **changes: int) -> QueueControl:
    """Change some fields of the stored control, if any; what holds now."""
    storage = await producer.open_storage()
    return _seen(await storage.control(producer.queue, changes or None))


def _seen(stored: Control) -> QueueControl:
    return QueueControl(
        paused=stored.paused,
        draining=stored.draining,
        max_length=stored.max_waiting or None,
        low_share=1 / stored.low_every if stored.low_every else None,
    )


async def pause(producer: Producer) -> None:
    """See :meth:`Queue.pause`."""
    await control(producer, paused=1)


async def resume(producer: Producer) -> None:
    """See :meth:`Queue.resume`."""
    await control(producer, paused=0, draining=0)


async def drain(producer: Producer, wait: Seconds | None = None) -> None:
    """See :meth:`Queue.drain`."""
    wait_ms = None if wait is None else to_ms(wait, "wait")
    await control(producer, draining=1)
    if wait_ms is None:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_ms / 1000):
            await _empty(producer)
            return
    left = await _unfinished(producer)
    if left:
        paused = (await control(producer)).paused
        raise DrainTimeout(producer.queue, wait_ms / 1000, left, paused)


async def _empty(producer: Producer) -> None:
    """Return once nothing waits or runs. No event tells that, since events may be lost."""
    delay = _LOOK_EVERY
    while await _unfinished(producer):
        await asyncio.sleep(delay)
        delay = min(delay * 1.5, _SELDOM)


async def _unfinished(producer: Producer) -> int:
    counts = await producer.counts()
    states = (JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING, JobState.RUNNING)
    return sum(counts[state] for state in states)


async def clear(producer: Producer, progress: Progress | None = None) -> int:
    """See :meth:`Queue.clear`."""
    storage = await producer.open_storage()
    ttl_ms = producer.options.result_ttl_ms
    value = encode_error(cancellation(CLEARED))
    total = 0
    while count := await storage.clear(producer.queue, MAX_BATCH, ttl_ms, value):
        total += count
        if progress is not None:
            progress(total)
    return total


async def obliterate(
    producer: Producer, confirm: str, force: bool = False, progress: Progress | None = None
) -> int:
    """See :meth:`Queue.obliterate`."""
    queue = producer.queue
    if confirm != queue:
        raise ValueError(
            f"this forgets every job of the queue for ever; to go on, pass confirm={queue!r}, "
            f"not {confirm!r}"
        )
    storage = await producer.open_storage()
    before = await storage.control(queue)
    if not force:
        await _refuse_if_running(producer)  # before anybody is disturbed
    await storage.control(queue, {"paused": 1, "draining": 1})
    if not force:
        try:
            await _refuse_if_running(producer)
        except ConfigurationError:
            changes = {"paused": int(before.paused), "draining": int(before.draining)}
            await storage.control(queue, changes)
            raise
    total = 0
    while count := await storage.obliterate(queue, MAX_BATCH):
        total += count
        if progress is not None:
            progress(total)
    return total


async def _refuse_if_running(producer: Producer) -> None:
    running = (await producer.counts())[JobState.RUNNING]
    if running:
        raise ConfigurationError(
            f"{running} job{'' if running == 1 else 's'} of queue {producer.queue!r} still running:"
            " pause() it and wait for them, or pass force=True, which takes them from their workers"
        )


async def set_max_length(producer: Producer, count: int | None) -> None:
    """See :meth:`Queue.set_max_length`."""
    if count is not None:
        check_count(count, "max_length", maximum=_MAX_LENGTH)
    await control(producer, max_waiting=count or 0)


async def set_low_share(producer: Producer, share: float | None) -> None:
    """See :meth:`Queue.set_low_share`."""
    await control(producer, low_every=0 if share is None else _low_every(share))


def _low_every(share: object) -> int:
    if not isinstance(share, int | float) or isinstance(share, bool):
        raise TypeError(f"low_share must be a number, not {share!r}")
    if not 1e-6 <= share <= _LARGEST_SHARE:
        raise ValueError(f"low_share must be between 0.000001 and 0.5, not {share!r}")
    return round(1 / share)


async def reschedule(producer: Producer, id: str, at: datetime | Seconds) -> RescheduleResult:
    """See :meth:`Queue.reschedule`."""
    check_name(id, "id")
    if isinstance(at, datetime):
        due = due_ms(at, "at")
        storage = await producer.open_storage()
    else:
        from_now_ms = to_ms(at, "at", zero=True)
        storage = await producer.open_storage()
        due = 0
        if from_now_ms:
            # From the storage's now: that is the clock by which it will be due.
            due = (await storage.schedules(producer.queue, [])).now_ms + from_now_ms
    (answer,) = await storage.reschedule(producer.queue, [id], due)
    return answer


async def run_now(producer: Producer, id: str) -> RescheduleResult:
    """See :meth:`Queue.run_now`."""
    return await reschedule(producer, id, 0)


async def scheduled(
    producer: Producer, limit: int = 100, after: JobInfo | None = None
) -> list[JobInfo]:
    """See :meth:`Queue.scheduled`."""
    check_count(limit, "limit")
    position = None if after is None else _position(after)
    storage = await producer.open_storage()
    found: list[JobInfo] = []
    while len(found) < limit:
        wanted = min(MAX_BATCH, limit - len(found))
        page = await storage.delayed(producer.queue, wanted, position)
        found += [producer.info_of(stored) for stored in page]
        if len(page) < wanted:
            break
        position = (page[-1].due_ms, page[-1].id)
    return found


def _position(after: object) -> tuple[int, str]:
    if not isinstance(after, JobInfo):
        raise TypeError(f"after must be the last JobInfo of the page before, not {after!r}")
    if after.due_at is None:
        raise ValueError(f"after must be a job that waits for its time; {after.id!r} does not")
    return due_ms(after.due_at, "after"), after.id
