"""First in, first out, the same on every storage."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from jobqueue import Job, JobSpec, Queue, StorageUnavailable
from jobqueue.options import JobOptions
from jobqueue.storage.types import Enqueued, NewJob
from tests.integration.asking import until_counted
from tests.integration.programs import MakeQueue
from tests.support.backends import Backend
from tests.support.wait import wait_until


def _record(queue: Queue) -> list[str]:
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.append(job.id)

    return runs


async def test_first_in_first_out(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    runs = _record(queue)
    expected: list[str] = []
    for n in range(10):
        expected.append((await queue.enqueue("task")).id)
        receipts = await queue.enqueue_many([JobSpec("task") for _ in range(n)])
        expected += [receipt.id for receipt in receipts]
    async with queue.worker():
        await until_counted(queue, completed=len(expected))
    assert runs == expected


async def test_ids_have_no_say_in_it(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    runs = _record(queue)
    ids = [f"{n:03}" for n in range(60)]
    random.Random(3).shuffle(ids)
    for id in ids:
        await queue.enqueue("task", id=id)
    async with queue.worker():
        await until_counted(queue, completed=60)
    assert runs == ids


async def test_many_slots_start_in_order(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=16)
    runs = _record(queue)
    receipts = await queue.enqueue_many([JobSpec("task") for _ in range(300)])
    async with queue.worker():
        await until_counted(queue, completed=300)
    assert runs == [receipt.id for receipt in receipts]


async def test_one_producer_while_the_worker_runs(make_queue: MakeQueue) -> None:
    queue, producer = make_queue(concurrency=1), make_queue()
    runs = _record(queue)
    async with queue.worker():
        expected = [(await producer.enqueue("task")).id for _ in range(100)]
        await until_counted(queue, completed=100)
    assert runs == expected


async def test_concurrent_enqueues_of_one_process_keep_their_order(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    runs = _record(queue)
    await asyncio.gather(*(queue.enqueue("task", id=f"{n}") for n in range(100)))
    async with queue.worker():
        await until_counted(queue, completed=100)
    assert runs == [f"{n}" for n in range(100)]


async def test_due_jobs_come_by_their_time(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    runs = _record(queue)
    now = datetime.now(UTC)
    for id, seconds in (("c", 0.30), ("a", 0.10), ("d", 0.40), ("b", 0.20)):
        receipt = await queue.enqueue("task", id=id, run_at=now + timedelta(seconds=seconds))
        assert (receipt.status, receipt.state) == ("queued", "scheduled")
    await queue.enqueue("task", id="at once")
    await asyncio.sleep(0.5)  # all are due when the worker comes
    await queue.enqueue("task", id="after that")
    async with queue.worker():
        await until_counted(queue, completed=6)
    assert runs[0] == "at once"
    assert [id for id in runs if len(id) == 1] == ["a", "b", "c", "d"]


async def test_a_delayed_job_waits_and_then_runs_on_time(make_queue: MakeQueue) -> None:
    queue = make_queue()
    started: dict[str, float] = {}
    loop = asyncio.get_running_loop()

    @queue.handler("task")
    async def task(job: Job) -> None:
        started[job.id] = loop.time()

    async with queue.worker():
        begin = loop.time()
        await queue.enqueue("task", id="delay", delay=0.3)
        await queue.enqueue("task", id="timedelta", delay=timedelta(seconds=0.3))
        await queue.enqueue("task", id="run_at", run_at=datetime.now(UTC) + timedelta(seconds=0.3))
        past = await queue.enqueue("task", id="past", run_at=datetime(2001, 1, 1, tzinfo=UTC))
        assert past.state == "queued"
        await wait_until(lambda: len(started) == 4)
    assert started["past"] - begin < 0.25
    for id in ("delay", "timedelta", "run_at"):
        assert 0.29 <= started[id] - begin < 0.6


@pytest.mark.parametrize("busy", [False, True])
async def test_jobs_of_a_stopped_worker_go_back_to_the_head(
    make_queue: MakeQueue, busy: bool
) -> None:
    queue = make_queue(grace=0, concurrency=3)
    runs: list[str] = []
    gate = asyncio.Event()

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.append(job.id)
        await gate.wait()

    await queue.enqueue_many([JobSpec("task", options=JobOptions(id=id)) for id in "abcdef"])
    async with queue.worker():
        await wait_until(lambda: len(runs) == 3)
        if busy:
            await queue.enqueue("task", id="g")
    runs.clear()
    gate.set()
    async with queue.worker(concurrency=1):
        await until_counted(queue, completed=7 if busy else 6)
    assert runs == list("abcdefg" if busy else "abcdef")


async def test_many_jobs_of_one_call_keep_their_order(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=500)
    runs = _record(queue)
    specs = [JobSpec("task", options=JobOptions(id=f"{n}")) for n in range(1_700)]
    assert [receipt.id for receipt in await queue.enqueue_many(specs)] == [
        f"{n}" for n in range(1_700)
    ]
    async with queue.worker():
        await until_counted(queue, completed=1_700)
    assert runs == [f"{n}" for n in range(1_700)]


@pytest.mark.parametrize("bad", [1, 2, 3])
async def test_one_batch_that_fails_fails_the_call(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    storage = backend.handle()
    really_enqueue = storage.enqueue
    sent = 0

    async def enqueue(queue: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
        nonlocal sent
        sent += 1
        if sent >= bad:
            raise StorageUnavailable(f"not batch {sent}")
        return await really_enqueue(queue, jobs)

    monkeypatch.setattr(storage, "enqueue", enqueue)
    async with Queue("q", storage) as queue:
        with pytest.raises(StorageUnavailable, match=f"not batch {bad}"):
            await queue.enqueue_many([JobSpec("task") for _ in range(1_700)])
        stored = (await queue.counts())["queued"]
        assert stored in {0, 500, 1_000}
