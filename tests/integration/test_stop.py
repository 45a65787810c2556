"""Stopping under load: nothing lost, nothing charged, and never longer than it may take."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from typing import Any

import pytest

from jobqueue import (
    Consumer,
    Job,
    JobSpec,
    JobState,
    MemoryStorage,
    Queue,
    QueueOptions,
    Storage,
    StorageUnavailable,
    Worker,
)
from jobqueue.options import NO_OPTIONS
from jobqueue.spec import encode_spec
from tests.integration.asking import counted, info_of, takes_at_most, until_counted, until_state
from tests.integration.crew import Crew
from tests.integration.ledger import Ledger
from tests.integration.programs import MakeQueue, work
from tests.support.backends import Backend
from tests.support.jobs import enqueue, new_job
from tests.support.wait import wait_until

STOP_SLACK = 2.0
"""Seconds beyond the grace period that a stop may take: one is promised, and one is for a busy
machine."""


SPEC = encode_spec(b"\xc0", "msgpack", NO_OPTIONS)


async def test_running_jobs_finish_within_the_grace_period(make_queue: MakeQueue) -> None:
    queue = make_queue(grace=5, concurrency=3)
    runs: list[int] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.attempt)
        await asyncio.sleep(0.3)
        return "done"

    receipts = await queue.enqueue_many([JobSpec("task") for _ in range(5)])
    async with queue.worker():
        await wait_until(lambda: len(runs) == 3)
        started = time.monotonic()
    assert time.monotonic() - started < 4
    assert runs == [1, 1, 1]  # a stop starts no more
    assert await counted(queue) == {"completed": 3, "queued": 2}
    assert [await receipt.result() for receipt in receipts[:3]] == ["done"] * 3


async def test_a_sync_handler_finishes_within_the_grace_period(make_queue: MakeQueue) -> None:
    queue = make_queue(grace=5)
    running = threading.Event()

    @queue.handler("task")
    def task(job: Job) -> str:
        running.set()
        time.sleep(0.3)
        return "done"

    async with queue.worker():
        receipt = await queue.enqueue("task")
        await wait_until(running.is_set)
    assert await receipt.result(0.5) == "done"


async def test_what_does_not_finish_is_released_and_not_charged(make_queue: MakeQueue) -> None:
    queue = make_queue(grace=0.2, concurrency=2)
    told: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.payload == "hang":
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                told.append(job.id)
                raise
        return f"attempt {job.attempt}"

    for id in ("one", "two"):
        await queue.enqueue("task", "hang", id=id)
    await queue.enqueue("task", id="three")
    async with queue.worker():
        await until_counted(queue, running=2, queued=1)
        started = time.monotonic()
    assert 0.2 <= time.monotonic() - started <= 0.2 + STOP_SLACK
    assert sorted(told) == ["one", "two"]
    for id in ("one", "two"):
        info = await info_of(queue, id)
        assert (info.state, info.attempt, info.error) == ("queued", 0, None)
    assert await counted(queue) == {"queued": 3}


@pytest.mark.parametrize("grace", [0, 0.3])
async def test_a_handler_that_ignores_its_cancellation(make_queue: MakeQueue, grace: float) -> None:
    queue, other = make_queue(grace=grace), make_queue()
    runs: list[int] = []
    free = asyncio.Event()
    ended = asyncio.Event()

    @queue.handler("task")
    async def stubborn(job: Job) -> str:
        runs.append(job.attempt)
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()
        ended.set()
        return "from the stubborn one"

    other.handler("task")(lambda job: f"attempt {job.attempt}")
    await queue.enqueue("task", id="one", max_attempts=1)
    async with queue.worker():
        await wait_until(lambda: runs)
        started = time.monotonic()
    assert grace <= time.monotonic() - started <= grace + STOP_SLACK
    info = await info_of(other, "one")
    assert (info.state, info.attempt) == ("queued", 0)
    async with other.worker():
        assert await other.result("one", wait=5) == "attempt 1"
    free.set()  # what it still does is its own affair
    await ended.wait()
    await asyncio.sleep(0.05)
    assert await other.result("one") == "attempt 1"


async def test_a_sync_handler_that_blocks(make_queue: MakeQueue) -> None:
    queue, other = make_queue(grace=0.2), make_queue()
    free, running = threading.Event(), threading.Event()
    told: list[bool] = []

    @queue.handler("task")
    def block(job: Job) -> str:
        running.set()
        free.wait(20)
        told.append(job.cancel_requested)
        return "too late"

    other.handler("task")(lambda job: f"attempt {job.attempt}")
    try:
        await queue.enqueue("task", id="one", max_attempts=1)
        async with queue.worker():
            await wait_until(running.is_set)
            started = time.monotonic()
        assert 0.2 <= time.monotonic() - started <= 0.2 + STOP_SLACK
        await queue.close()
        async with other.worker():
            assert await other.result("one", wait=5) == "attempt 1"
    finally:
        free.set()
    await wait_until(lambda: told)
    assert told == [True]
    assert await other.result("one") == "attempt 1"


async def test_stopping_an_idle_worker_takes_no_time(make_queue: MakeQueue) -> None:
    queue = make_queue(grace=30)
    for seconds in (0, 0.001, 0.02, 0.2):
        async with queue.worker():
            await asyncio.sleep(seconds)
            started = time.monotonic()
        assert time.monotonic() - started < 4


async def test_run_works_until_it_is_cancelled_and_then_stops_gracefully(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(grace=5)
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.id)
        await asyncio.sleep(0.2)
        return "done"

    running = asyncio.create_task(queue.run())
    receipt = await queue.enqueue("task")
    await wait_until(lambda: runs)
    running.cancel()
    with takes_at_most(1.5):
        await asyncio.wait([running])
    assert running.cancelled()
    assert (await info_of(queue, receipt.id)).result == "done"


async def test_a_stop_that_is_cancelled_again_still_ends_gracefully(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(grace=1)
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.append(job.id)
        await asyncio.sleep(0.3)

    running = asyncio.create_task(Worker(queue).run())
    receipt = await queue.enqueue("task")
    await wait_until(lambda: runs)
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0.02)
    with takes_at_most(1.0 + STOP_SLACK):
        await asyncio.wait([running])
    assert (await info_of(queue, receipt.id)).state == "completed"


async def test_run_until_empty(make_queue: MakeQueue) -> None:
    queue = make_queue()

    @queue.handler("task")
    async def task(job: Job) -> None:
        await asyncio.sleep(0.01)
        if job.payload:
            await queue.enqueue("task", job.payload - 1)

    await queue.enqueue_many([JobSpec("task", 3) for _ in range(10)])
    await queue.enqueue("task", delay=60)
    with takes_at_most(5):
        await Worker(queue).run_until_empty()
    assert await counted(queue) == {"completed": 40, "scheduled": 1}


async def test_stopping_again_and_again_under_load_loses_and_charges_nothing(
    make_queue: MakeQueue,
) -> None:
    producer = make_queue()
    choose = random.Random(7)
    ledger: list[tuple[str, int, str]] = []
    count = 400

    def worker(grace: float) -> Queue:
        queue = make_queue(grace=grace, concurrency=8)

        @queue.handler("async")
        async def async_task(job: Job) -> str:
            ledger.append((job.id, job.attempt, "run"))
            await asyncio.sleep(job.payload)
            ledger.append((job.id, job.attempt, "done"))
            return job.id

        @queue.handler("sync")
        def sync_task(job: Job) -> str:
            ledger.append((job.id, job.attempt, "run"))
            time.sleep(job.payload)
            ledger.append((job.id, job.attempt, "done"))
            return job.id

        return queue

    async def produce() -> list[str]:
        ids: list[str] = []
        for n in range(count):
            seconds = choose.choice([0, 0.001, 0.005, 0.02])
            name = choose.choice(["async", "async", "async", "sync"])
            ids.append((await producer.enqueue(name, seconds, id=f"{n}", max_attempts=1)).id)
            if n % 7 == 0:
                await asyncio.sleep(0.001)
        return ids

    producing = asyncio.create_task(produce())
    for _ in range(12):
        queue = worker(grace=choose.choice([0, 0, 0.005, 0.03]))
        async with queue.worker():
            await asyncio.sleep(choose.uniform(0, 0.06))
            started = time.monotonic()
        assert time.monotonic() - started < 0.03 + STOP_SLACK
        await queue.close()
    ids = await producing
    last = worker(grace=5)
    async with last.worker():
        await until_counted(producer, 20, completed=count)
    # None was charged more than it used: with max_attempts=1, a second charge would have failed it.
    for id in ids:
        info = await info_of(producer, id)
        assert (info.state, info.attempt, info.result) == ("completed", 1, id)
    assert {attempt for _, attempt, _ in ledger} == {1}
    runs = Counter(id for id, _, what in ledger if what == "run")
    assert set(runs) == set(ids)


@pytest.mark.storages("sqlite", "redis")
async def test_stopping_processes_under_load(
    crew: Crew, make_queue: MakeQueue, ledger: Ledger
) -> None:
    queue = make_queue()
    options = {"grace": 0.05, "concurrency": 4, "max_attempts": 1}
    count = 400
    receipts = await queue.enqueue_many([JobSpec("note_slowly", n % 5 / 100) for n in range(count)])
    for _ in range(2):
        # Where starting takes longer than all the jobs, nothing is left for the second round.
        members = await crew.hire_many(2, work, str(ledger.path), options)
        enough = min(len(ledger.read("run")) + 10, count)
        await wait_until(lambda enough=enough: len(ledger.read("run")) >= enough, 20)
        for member in members:
            member.go()
        for member in members:
            await member.result()
    assert (await counted(queue)).get("running", 0) == 0
    last = await crew.hire(work, str(ledger.path), {"concurrency": 20, "max_attempts": 1})
    await until_counted(queue, 15, completed=count)
    last.go()
    await last.result()
    for receipt in receipts:
        info = await receipt.info()
        assert info is not None
        assert info.attempt == 1
    assert {run.attempt for run in ledger.read()} == {1}
    assert len(ledger.read("done")) == count


async def test_a_job_that_comes_while_the_worker_stops_is_not_lost(
    make_queue: MakeQueue,
) -> None:
    queue, producer = make_queue(grace=0), make_queue()
    queue.handler("task")(lambda job: None)
    for n in range(20):
        async with queue.worker():
            await asyncio.sleep(0.002 * (n % 4))
            sending = asyncio.gather(*(producer.enqueue("task", max_attempts=1) for _ in range(5)))
            await asyncio.sleep(0)
        await sending
    async with queue.worker():
        await until_counted(producer, completed=100)


@pytest.mark.parametrize("ticks", range(12))
async def test_a_stop_at_any_moment_of_a_claim_charges_nothing(ticks: int) -> None:
    async def task(job: Job) -> None:
        await asyncio.sleep(5)

    storage = MemoryStorage()
    options = QueueOptions(max_attempts=1, grace=0)
    consumer = Consumer(storage, {"task": task}, options=options)
    async with storage:
        await consumer.start()
        await asyncio.sleep(0.01)  # it waits for a job
        await enqueue(storage, new_job("a", name="task", spec=SPEC), queue="default")
        for _ in range(ticks):
            await asyncio.sleep(0)
        await consumer.stop()
        (job,) = await storage.get("default", ["a"])
        assert job is not None
        assert (job.state, job.attempt) == (JobState.QUEUED, 0)


async def test_stopping_while_the_handler_of_a_hook_is_slow(make_queue: MakeQueue) -> None:
    queue = make_queue(grace=0.2)
    entered: list[str] = []

    @queue.on("started")
    async def slow(event: Any) -> None:
        entered.append(event.id)
        await asyncio.sleep(30)

    queue.handler("task")(lambda job: None)
    async with queue.worker():
        await queue.enqueue("task", id="one")
        await wait_until(lambda: entered)
        started = time.monotonic()
    assert time.monotonic() - started <= 0.2 + STOP_SLACK
    info = await info_of(queue, "one")
    assert (info.state, info.attempt) == ("queued", 0)


async def test_a_worker_in_a_cancelled_task_group(make_queue: MakeQueue) -> None:
    queue = make_queue(grace=2)
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.append(job.id)
        await asyncio.sleep(0.2)

    async def serve() -> None:
        async with queue.worker():
            await asyncio.sleep(30)

    await queue.enqueue("task", id="one")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await serve()
    assert runs == ["one"]
    await until_state(queue, "one", "completed")


async def test_an_error_inside_the_block_stops_the_worker_too(
    make_queue: MakeQueue, backend: Backend
) -> None:
    storage: Storage = backend.handle()
    queue = make_queue(storage=storage, grace=1)
    with pytest.raises(ZeroDivisionError):
        async with queue.worker():
            raise ZeroDivisionError
    await queue.close()
    await queue.enqueue("task", id="one")
    await asyncio.sleep(0.1)
    assert (await info_of(queue, "one")).state == "queued"


async def test_a_consumer_that_stopped_in_an_outage_has_all_its_slots_when_it_starts_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = backend.handle()
    really_claim, is_away, refused = storage.claim, True, 0

    async def claim(*arguments: Any) -> Any:
        nonlocal refused
        if not is_away:
            return await really_claim(*arguments)
        refused += 1
        raise StorageUnavailable("no answer")

    monkeypatch.setattr(storage, "claim", claim)
    async with Queue("q", storage) as queue:
        consumer = Consumer(storage, {"task": lambda job: job.attempt}, "q", concurrency=1)
        async with consumer:
            await wait_until(lambda: refused)
        is_away = False
        async with consumer:
            assert await queue.enqueue_and_wait("task", wait=10) == 1
