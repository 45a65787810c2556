"""Producer, Consumer and Reaper by themselves, for those who compose their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobqueue import (
    Consumer,
    Job,
    JobFailed,
    Producer,
    QueueOptions,
    Reaper,
    Storage,
    WaitTimeout,
)
from jobqueue.hooks import Hooks
from tests.integration.crew import Crew
from tests.integration.ledger import Ledger
from tests.integration.programs import MakeQueue, enqueue_some, work
from tests.support.backends import Backend
from tests.support.wait import wait_until


def _echo(job: Job) -> Any:
    return job.payload


async def _double(job: Job) -> Any:
    return 2 * job.payload


async def test_a_producer_and_a_consumer_over_two_handles(backend: Backend) -> None:
    consumer = Consumer(backend.handle(), {"echo": _echo, "double": _double}, queue="q")
    async with Producer(backend.handle(), "q") as producer, consumer:
        assert await producer.enqueue_and_wait("echo", "a", wait=5) == "a"
        assert await producer.enqueue_and_wait("double", 4, wait=5) == 8
        with pytest.raises(JobFailed, match="no handler"):
            await producer.enqueue_and_wait("unknown", wait=5)
        receipt = await producer.enqueue("echo", 1, id="one")
        assert await receipt.result(5) == 1
        assert (await producer.enqueue("echo", 2, id="one")).status == "completed"
        counts = await producer.counts()
    assert (counts["completed"], counts["failed"]) == (3, 1)


async def test_they_share_one_storage_object(backend: Backend) -> None:
    storage: Storage = backend.handle()
    async with Producer(storage) as producer:
        async with Consumer(storage, {"echo": _echo}), Reaper(storage):
            assert await producer.enqueue_and_wait("echo", 1, wait=5) == 1
        with pytest.raises(WaitTimeout):
            await producer.enqueue_and_wait("echo", 2, id="left", wait=0.1)
        info = await producer.get("left")
        assert info is not None
        assert (info.state, info.queue) == ("queued", "default")


async def test_a_consumer_of_its_own_options_hooks_and_name(backend: Backend) -> None:
    hooks, heard = Hooks(), []
    hooks.add("completed", lambda event: heard.append((event.id, event.worker)))
    running = 0
    most = 0

    async def count(job: Job) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    consumer = Consumer(
        backend.handle(),
        {"count": count},
        "q",
        options=QueueOptions(concurrency=50, max_attempts=1, result_ttl=5),
        hooks=hooks,
        worker_id="me",
        concurrency=2,
    )
    assert (consumer.worker_id, consumer.queue, consumer.active_count) == ("me", "q", 0)
    async with Producer(backend.handle(), "q") as producer, consumer:
        receipts = [await producer.enqueue("count") for _ in range(6)]
        for receipt in receipts:
            await receipt.result(5)
        await wait_until(lambda: len(heard) == 6)
    assert most == 2
    assert set(heard) == {(receipt.id, "me") for receipt in receipts}


async def test_a_consumer_that_is_stopped_and_started_again(backend: Backend) -> None:
    consumer = Consumer(backend.handle(), {"echo": _echo}, "q")
    async with Producer(backend.handle(), "q") as producer:
        for n in range(3):
            await consumer.start()
            assert await producer.enqueue_and_wait("echo", n, wait=5) == n
            await consumer.stop()
            await consumer.stop()


async def test_a_consumer_does_not_recover_what_others_lost(backend: Backend) -> None:
    # That is a reaper's work, so that those who compose their own decide where it runs.
    consumer = Consumer(backend.handle(), {"echo": _echo}, "q", options=QueueOptions(lease=0.6))
    reaper = Reaper(backend.handle(), "q", options=QueueOptions(lease=0.6))
    gate = asyncio.Event()

    async def hang(job: Job) -> None:
        await gate.wait()

    dying = Consumer(
        backend.handle(), {"echo": hang}, "q", options=QueueOptions(lease=0.6), concurrency=1
    )
    async with Producer(backend.handle(), "q") as producer:
        await dying.start()
        receipt = await producer.enqueue("echo", "kept", id="one")
        await wait_until(lambda: dying.active_count == 1)
        await dying._keeper.stop()  # pyright: ignore[reportPrivateUsage] - it dies as far as the storage can see
        async with consumer:
            with pytest.raises(WaitTimeout):
                await receipt.result(0.9)
            async with reaper:
                assert await receipt.result(5) == "kept"
        gate.set()
        await dying.stop()
        assert await receipt.result(1) == "kept"


async def test_processes_that_only_produce_and_processes_that_only_consume(
    crew: Crew, make_queue: MakeQueue, ledger: Ledger
) -> None:
    worker = await crew.hire(work, str(ledger.path), {"concurrency": 5})
    producers = await crew.hire_many(2, enqueue_some, 25)
    for producer in producers:
        producer.go()
    ids = [id for producer in producers for id in await producer.result()]
    assert len(set(ids)) == 50
    looker = make_queue()
    for id in ids:
        assert await looker.result(id, wait=10) in range(25)
    worker.go()
    await worker.result()
    assert sorted(run.id for run in ledger.read("run")) == sorted(ids)
