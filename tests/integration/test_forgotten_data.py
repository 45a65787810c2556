"""The server forgets jobs: all of them (FLUSHALL, a start without its data), or the last ones.

The jobs are gone, which is not ours to mend. Everybody who had to do with them must hear of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobqueue import Event, Job, JobNotFound, Queue
from tests.integration.asking import until_counted
from tests.support.backends import MakeStorage, RedisBackend
from tests.support.clock import ManualClock
from tests.support.jobs import QUEUE, SECOND, claim_one, completed, enqueue, held, settle
from tests.support.wait import wait_until

pytestmark = pytest.mark.storages("redis")


@contextmanager
def forgetting(backend: RedisBackend) -> Iterator[None]:
    """Afterwards, the server holds what it held before."""
    admin = backend.admin
    kept = [(key, max(0, admin.pttl(key)), admin.dump(key)) for key in admin.keys("*")]
    yield
    admin.flushall()
    for key, ttl_ms, value in kept:
        admin.restore(key, ttl_ms, value)


async def test_who_waits_is_told_and_who_runs_is_refused(
    backend: RedisBackend, queue: Queue
) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()
    settled: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.payload == "long":
            running.set()
            await go_on.wait()
        return job.id

    @queue.on("completed")
    def note(event: Event) -> None:
        settled.append(event.id)

    async with queue.worker(concurrency=1):
        calls = [
            asyncio.create_task(queue.enqueue_and_wait("task", "long", id=id, wait=None))
            for id in ("runs", "waits")
        ]
        await running.wait()
        await until_counted(queue, queued=1, running=1)
        late = asyncio.create_task(queue.result("waits"))
        await wait_until(lambda: len(queue.producer._replies._waits["waits"]) == 2)
        backend.admin.flushall()
        for call in (*calls, late):
            with pytest.raises(JobNotFound):
                await asyncio.wait_for(call, 20)
        go_on.set()
        assert await queue.enqueue_and_wait("task", "short", id="waits") == "waits"
        await until_counted(queue, completed=1)
    assert settled == ["waits"]


async def test_a_fence_from_before_does_not_hold_the_same_id_enqueued_again(
    backend: RedisBackend, clock: ManualClock, make_storage: MakeStorage
) -> None:
    storage = await make_storage()
    await enqueue(storage, "a")
    old = await claim_one(storage, worker="w1")
    backend.admin.flushall()
    await clock.advance(SECOND)
    await enqueue(storage, "a")
    new = await claim_one(storage, worker="w2")
    assert new.fence > old.fence
    assert (await storage.heartbeat(QUEUE, "w1", held(old), SECOND)).lost == ["a"]
    assert await settle(storage, completed(b"stale"), old, worker="w1") == [False]
    assert await settle(storage, completed(b"valid"), new, worker="w2") == [True]


async def test_nor_when_only_the_last_moment_was_forgotten(
    backend: RedisBackend, clock: ManualClock, make_storage: MakeStorage
) -> None:
    storage = await make_storage()
    await enqueue(storage, "a", "b")
    await claim_one(storage)
    with forgetting(backend):
        lost = await claim_one(storage, worker="w1")
    await clock.advance(SECOND)
    again = await claim_one(storage, worker="w2")
    assert again.id == lost.id == "b"
    assert await settle(storage, completed(b"stale"), lost, worker="w1") == [False]
    assert await settle(storage, completed(b"valid"), again, worker="w2") == [True]


async def test_nor_when_a_reaper_took_the_job_over(
    backend: RedisBackend, clock: ManualClock, make_storage: MakeStorage
) -> None:
    storage = await make_storage()
    await enqueue(storage, "a")
    await claim_one(storage, lease_ms=SECOND)
    await clock.advance(2 * SECOND)
    with forgetting(backend):
        (lost,) = await storage.recover(QUEUE, "reaper 1", 10, SECOND, "token")
    await clock.advance(SECOND)
    (again,) = await storage.recover(QUEUE, "reaper 2", 10, SECOND, "token")
    assert await settle(storage, completed(b"stale"), lost, worker="reaper 1") == [False]
    assert await settle(storage, completed(b"valid"), again, worker="reaper 2") == [True]
