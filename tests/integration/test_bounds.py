"""What a process holds is bounded, whatever does not serve, and by what."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from jobqueue import Job, JobSpec, StorageUnavailable
from jobqueue.storage.types import Enqueued, NewJob, Offer, Settlement
from tests.integration.asking import until_counted
from tests.integration.programs import MakeQueue
from tests.support.backends import Backend
from tests.support.wait import wait_until

HELD = 100
SLOTS = 20
COUNT = 400


async def test_outcomes_that_cannot_be_settled(
    backend: Backend, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond so many, jobs keep their slots, and no more are claimed; nothing is run again."""
    monkeypatch.setattr("jobqueue.consumer.settler.MAX_HELD", HELD)
    monkeypatch.setattr("jobqueue.backoff._LONGEST", 0.1)
    storage = backend.handle()
    really_finish = storage.finish
    is_away = asyncio.Event()
    is_away.set()

    async def finish(
        queue: str, worker: str, settlements: Sequence[Settlement], offer: Offer | None = None
    ) -> list[bool]:
        if is_away.is_set():
            raise StorageUnavailable("refused")
        return await really_finish(queue, worker, settlements, offer)

    monkeypatch.setattr(storage, "finish", finish)
    queue = make_queue(storage=storage, concurrency=SLOTS, lease=60)
    runs: Counter[str] = Counter()

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs[job.id] += 1

    await queue.enqueue_many([JobSpec("task") for _ in range(COUNT)])
    async with queue.worker() as worker:
        # One batch is under way, of the first that ended; behind it wait so many; then nobody's
        # slot is given back any more.
        await wait_until(lambda: worker.active_count >= HELD + SLOTS)
        most = 0
        for _ in range(50):
            await asyncio.sleep(0.01)
            most = max(most, worker.active_count)
        is_away.clear()
        assert most <= HELD + 2 * SLOTS
        await until_counted(queue, 20, completed=COUNT)
    assert runs.total() == len(runs) == COUNT


async def test_callers_that_lose_their_patience(
    backend: Backend, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = backend.handle()
    really_enqueue = storage.enqueue
    back = asyncio.Event()

    async def enqueue(queue: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
        await back.wait()
        return await really_enqueue(queue, jobs)

    monkeypatch.setattr(storage, "enqueue", enqueue)
    queue = make_queue(storage=storage)

    async def call(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await queue.enqueue_and_wait("task")

    patient = [asyncio.create_task(queue.enqueue("task", n)) for n in range(100)]
    await asyncio.sleep(0)
    try:
        for _ in range(20):
            await asyncio.gather(*(call(0.001) for _ in range(50)))
        producer: Any = queue.producer
        assert len(producer._batcher) <= 2 * (100 + 50)
        assert not producer._replies._waits
    finally:
        back.set()  # else nothing could be closed
    await asyncio.gather(*patient)
    await until_counted(queue, queued=100)


async def test_a_reader_of_events_that_does_not_read(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It misses the oldest ones, and that is said once, not of each."""
    monkeypatch.setattr("jobqueue.events.BUFFER", 10)
    queue = make_queue()
    async with queue.events() as events:
        buffer: Any = events
        await queue.enqueue_many([JobSpec("task", n) for n in range(50)])
        last = await queue.enqueue("task")
        await wait_until(lambda: buffer._events.qsize() and buffer._events._queue[-1].id == last.id)
        assert buffer._events.qsize() == 10
        seen = [(await anext(events)).id for _ in range(10)]
        assert seen[-1] == last.id
        said = [record.getMessage() for record in caplog.records if "dropped" in record.msg]
        assert said == [
            "events are dropped: the reader of events() is too slow",
            "the reader of events() keeps up again; 41 were dropped",
        ]
