"""Queues side by side: they share the connection and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from typing import Any

import pytest

from jobqueue import ConfigurationError, Job, JobNotFound, Queue, Storage, Worker
from tests.integration.asking import counted, info_of, takes_at_most, until_counted, until_state
from tests.integration.programs import MakeQueue
from tests.support.backends import Backend
from tests.support.wait import wait_until


@pytest.fixture
def shared(backend: Backend) -> Storage:
    return backend.handle()


def _two(make_queue: MakeQueue, shared: Storage, **options: Any) -> tuple[Queue, Queue]:
    return (
        make_queue("a", storage=shared, **options),
        make_queue("b", storage=shared, **options),
    )


async def test_the_same_id_in_two_queues_is_two_jobs(
    make_queue: MakeQueue, shared: Storage
) -> None:
    a, b = _two(make_queue, shared)
    a.handler("task")(lambda job: f"a {job.payload}")
    b.handler("task")(lambda job: f"b {job.payload}")
    for queue in (a, b):
        receipt = await queue.enqueue("task", queue.name.upper(), id="one")
        assert receipt.status == "queued"
    assert (await info_of(a, "one")).payload == "A"
    async with a.worker():
        assert await a.result("one", wait=5) == "a A"
        assert await counted(b) == {"queued": 1}
    async with b.worker():
        assert await b.result("one", wait=5) == "b B"
    assert (await info_of(a, "one")).result == "a A"
    assert await a.set_result_ttl("one", 0.05) == "updated"
    await until_counted(a)
    assert await counted(b) == {"completed": 1}


async def test_nothing_of_one_queue_is_seen_in_another(
    make_queue: MakeQueue, shared: Storage
) -> None:
    a, b = _two(make_queue, shared)
    await a.enqueue("task", id="one")
    assert await b.get("one") is None
    assert await b.cancel("one") == "not_found"
    assert await b.set_result_ttl("one", 1) == "not_found"
    assert await counted(b) == {}
    with pytest.raises(JobNotFound):
        await b.result("one")
    assert await counted(a) == {"queued": 1}


async def test_cancel_events_and_hooks_stay_in_their_queue(
    make_queue: MakeQueue, shared: Storage
) -> None:
    a, b = _two(make_queue, shared)
    hooked: list[str] = []
    heard: list[str] = []
    for queue in (a, b):

        @queue.handler("task")
        async def task(job: Job) -> None:
            await asyncio.sleep(0 if job.payload == "quick" else 30)

    b.on("completed")(lambda event: hooked.append(event.queue))

    async def listen() -> None:
        async with b.events() as events:
            async for event in events:
                heard.append(event.queue)

    listener = asyncio.create_task(listen())
    async with Worker(a, b):
        await wait_until(lambda: _heard_one(b, heard))
        await a.enqueue("task", id="one")
        await b.enqueue("task", id="one")
        await until_counted(a, running=1)
        await until_state(b, "one", "running")
        assert await a.cancel("one") == "running"
        await until_state(a, "one", "cancelled")
        assert (await info_of(b, "one")).state == "running"
        await b.cancel("one")
        await until_state(b, "one", "cancelled")
    listener.cancel()
    await asyncio.wait([listener])
    assert set(hooked) == {"b"}
    assert set(heard) == {"b"}


_ids = itertools.count()


async def _heard_one(queue: Queue, heard: list[str]) -> bool:
    await queue.enqueue_and_wait("task", "quick", id=f"probe {next(_ids)}")
    return bool(heard)


async def test_stopping_one_changes_nothing_for_the_other(
    make_queue: MakeQueue, shared: Storage
) -> None:
    a, b = _two(make_queue, shared, grace=0)
    runs: list[str] = []

    for queue in (a, b):

        @queue.handler("task")
        async def task(job: Job) -> str:
            runs.append(f"{job.queue} {job.id} {job.attempt}")
            await asyncio.sleep(job.payload)
            return job.queue

    async with b.worker():
        slow = await b.enqueue("task", 0.8, id="slow")
        waiter = asyncio.create_task(slow.result(10))
        async with a.worker():
            await a.enqueue("task", 30, id="stuck")
            await wait_until(lambda: len(runs) == 2)
        await a.close()
        assert (await info_of(b, "slow")).state == "running"
        with takes_at_most(0.5):
            assert await b.enqueue_and_wait("task", 0) == "b"
        assert await waiter == "b"
    assert sorted(runs)[0] == "a stuck 1"
    assert sorted(runs)[1:] == [run for run in sorted(runs)[1:] if run.startswith("b ")]
    assert "b slow 1" in runs
    assert (await counted(a), await counted(b)) == ({"queued": 1}, {"completed": 2})


async def test_closing_one_queue_leaves_the_storage_to_the_other(
    make_queue: MakeQueue, shared: Storage
) -> None:
    a, b = _two(make_queue, shared)
    b.handler("task")(lambda job: "b")
    async with a, b:
        await a.close()
        await a.close()
        async with b.worker():
            assert await b.enqueue_and_wait("task") == "b"
        assert (await a.enqueue("task")).status == "queued"  # opens again by itself


async def test_idle_queues_never_delay_another(make_queue: MakeQueue, shared: Storage) -> None:
    idle = [make_queue(f"idle {n}", storage=shared) for n in range(5)]
    busy = make_queue("busy", storage=shared)
    for queue in (*idle, busy):
        queue.handler("task")(lambda job: job.queue)
    async with Worker(*idle[:3], busy, *idle[3:]):
        await busy.enqueue_and_wait("task")
        await asyncio.sleep(0.2)  # by now each waits for jobs
        times: list[float] = []
        for _ in range(30):
            started = time.perf_counter()
            assert await busy.enqueue_and_wait("task") == "busy"
            times.append(time.perf_counter() - started)
        assert sorted(times)[15] < 0.05, times
        assert max(times) < 0.6, times
        for queue in idle:  # and those that were idle are awake at once
            with takes_at_most(0.6):
                assert await queue.enqueue_and_wait("task") == queue.name


async def test_a_full_queue_never_delays_another(make_queue: MakeQueue, shared: Storage) -> None:
    full = make_queue("full", storage=shared, grace=0)
    quick = make_queue("quick", storage=shared)

    @full.handler("task")
    async def hang(job: Job) -> None:
        await asyncio.sleep(30)

    quick.handler("task")(lambda job: job.queue)
    async with Worker(full, quick, concurrency=2):
        for _ in range(20):
            await full.enqueue("task")
        await until_counted(full, running=2, queued=18)
        with takes_at_most(0.6):
            assert await quick.enqueue_and_wait("task") == "quick"


async def test_a_worker_of_several_queues_on_several_storages(
    make_queue: MakeQueue,
) -> None:
    queues = [make_queue("one"), make_queue("two"), make_queue("one", storage="memory://")]
    for n, queue in enumerate(queues):
        queue.handler("task")(lambda job, n=n: n)
    async with Worker(*queues, concurrency=2) as worker:
        assert len(set(worker.worker_ids)) == 3
        for n, queue in enumerate(queues):
            assert await queue.enqueue_and_wait("task") == n


async def test_several_queues_stop_within_one_grace_period(
    make_queue: MakeQueue, shared: Storage
) -> None:
    queues = [make_queue(f"{n}", storage=shared, grace=0.5) for n in range(4)]
    for queue in queues:

        @queue.handler("task")
        async def hang(job: Job) -> None:
            await asyncio.sleep(30)

    async with Worker(*queues):
        for queue in queues:
            await queue.enqueue("task")
            await until_counted(queue, running=1)
        started = time.monotonic()
    assert 0.5 <= time.monotonic() - started < 5
    for queue in queues:
        assert await counted(queue) == {"queued": 1}


async def test_a_worker_needs_a_queue_and_each_only_once(make_queue: MakeQueue) -> None:
    queue = make_queue()
    with pytest.raises(ConfigurationError, match="at least one"):
        Worker()
    with pytest.raises(ConfigurationError, match="twice"):
        Worker(queue, queue)


@pytest.mark.storages("memory")
async def test_a_named_memory_is_shared_by_the_queues_of_a_process(make_queue: MakeQueue) -> None:
    name = f"memory://{uuid.uuid4().hex}"
    producer, worker = make_queue(storage=name), make_queue(storage=name)
    apart = [make_queue(storage="memory://"), make_queue(storage=f"{name}x")]
    worker.handler("task")(lambda job: "done")
    await producer.enqueue("task", id="one")
    async with worker.worker():
        assert await producer.result("one", wait=5) == "done"
    for queue in apart:
        assert await queue.get("one") is None
