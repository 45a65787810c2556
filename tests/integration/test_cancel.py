"""Cancelling: jobs that wait, jobs that run, jobs that have ended."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from jobqueue import Cancel, Fixed, Job, JobCancelled, JobFailed, Queue, Retry, current_job
from tests.integration.asking import counted, info_of, takes_at_most, until_counted, until_state
from tests.integration.crew import Crew
from tests.integration.programs import MakeQueue, wait_for
from tests.support.wait import wait_until


def known_waits(queue: Queue, id: str) -> int:
    """How many callers of this queue object wait for a job that the storage has confirmed."""
    waits = queue.producer._replies._waits.get(id, ())  # nothing public tells this moment
    return sum(wait.stored for wait in waits)


@pytest.mark.parametrize("state", ["queued", "scheduled", "retrying"])
async def test_what_waits_never_runs_and_every_waiter_hears_it_at_once(
    make_queue: MakeQueue, state: str
) -> None:
    queue, other = make_queue(retry=Fixed(0.6)), make_queue()
    runs: list[int] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.append(job.attempt)
        raise RuntimeError("not yet")

    options: dict[str, Any] = {"delay": 0.6} if state == "scheduled" else {}
    receipt = await queue.enqueue("task", id="one", **options)
    if state == "retrying":
        async with queue.worker():
            await until_state(queue, "one", "retrying")
    before = len(runs)
    waiters = [
        asyncio.create_task(receipt.result()),
        asyncio.create_task(queue.result("one", wait=20)),
        asyncio.create_task(queue.enqueue_and_wait("task", id="one", wait=20)),
        asyncio.create_task(other.result("one")),
        asyncio.create_task(other.enqueue_and_wait("task", id="one", wait=None)),
    ]
    # One that came after the cancel would be a new job.
    await wait_until(lambda: known_waits(queue, "one") == 3 and known_waits(other, "one") == 2)
    assert await other.cancel("one") == "cancelled"
    with takes_at_most(0.5):
        for waiter in waiters:
            with pytest.raises(JobCancelled) as caught:
                await waiter
            assert caught.value.id == "one"
    info = await info_of(queue, "one")
    assert info.state == "cancelled"
    assert info.finished_at is not None
    assert info.error is not None
    assert info.error.reason == "cancelled"
    # It stays so when its time has come, and a worker looks.
    async with queue.worker():
        await queue.enqueue("task", id="later", delay=0.7, max_attempts=1)
        await until_state(queue, "later", "failed")
    assert len(runs) == before + 1
    assert await counted(queue) == {"cancelled": 1, "failed": 1}


async def test_a_waiter_that_comes_late_hears_it_too(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue()
    receipt = await queue.enqueue("task", id="one")
    await queue.cancel("one")
    for ask in (receipt.result, lambda: queue.result("one"), lambda: other.result("one")):
        with pytest.raises(JobCancelled, match="cancelled on request"):
            await ask()


async def test_waiters_in_other_processes_hear_it(crew: Crew, queue: Queue) -> None:
    await queue.enqueue("task", id="one")
    members = await crew.hire_many(2, wait_for, "one", 20)
    for member in members:
        member.go()
    await asyncio.sleep(0.2)
    await queue.cancel("one")
    with takes_at_most(2):
        answers = [await member.result() for member in members]
    assert [answer[0] for answer in answers] == ["job_cancelled"] * 2


async def test_cancelled_and_enqueued_again_it_runs_once_with_the_new_payload(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(concurrency=1)
    runs: list[Any] = []
    queue.handler("task")(lambda job: runs.append((job.id, job.payload, job.attempt)))
    for n in range(20):
        id = f"job {n}"
        await queue.enqueue("task", "old", id=id)
        assert await queue.cancel(id) == "cancelled"
        if n % 2:
            await queue.enqueue("task", "older still", id=id)
            assert await queue.cancel(id) == "cancelled"
        receipt = await queue.enqueue("task", "new", id=id)
        assert (receipt.status, receipt.state) == ("queued", "queued")
    assert await counted(queue) == {"queued": 20}
    async with queue.worker():
        await until_counted(queue, completed=20)
    assert runs == [(f"job {n}", "new", 1) for n in range(20)]


async def test_cancelled_and_enqueued_again_while_a_worker_takes_jobs(queue: Queue) -> None:
    runs: dict[str, list[Any]] = {}

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.setdefault(job.id, []).append(job.payload)

    async with queue.worker():
        for n in range(50):
            await queue.enqueue("task", "old", id=f"{n}")
            if await queue.cancel(f"{n}") == "cancelled":
                receipt = await queue.enqueue("task", "new", id=f"{n}")
                assert receipt.status == "queued"
                assert await receipt.result(5) is None
                assert runs.pop(f"{n}") == ["new"]


async def test_a_scheduled_job_is_cancelled_and_enqueued_again_for_now(queue: Queue) -> None:
    queue.handler("task")(lambda job: job.payload)
    await queue.enqueue("task", "old", id="one", delay=0.3)
    await queue.cancel("one")
    async with queue.worker():
        with takes_at_most(0.25):
            assert await queue.enqueue_and_wait("task", "new", id="one") == "new"
        await queue.enqueue("task", "later", id="two", delay=0.4)
        assert await queue.result("two", wait=5) == "later"
    assert (await info_of(queue, "one")).result == "new"


async def test_a_running_async_handler_is_cancelled_and_others_are_not_touched(
    make_queue: MakeQueue,
) -> None:
    queue, other = make_queue(), make_queue()
    heard: list[str] = []
    gate = asyncio.Event()

    @queue.handler("task")
    async def task(job: Job) -> str:
        try:
            heard.append(f"{job.id} runs")
            await gate.wait()
        except asyncio.CancelledError:
            heard.append(f"{job.id} told: {job.cancel_requested}")
            raise
        return "undisturbed"

    async with queue.worker():
        receipts = [await queue.enqueue("task", id=id) for id in ("one", "two")]
        await wait_until(lambda: len(heard) == 2)
        assert await other.cancel("one") == "running"
        with takes_at_most(1), pytest.raises(JobCancelled):
            await receipts[0].result()
        assert heard[2:] == ["one told: True"]
        assert (await info_of(queue, "two")).state == "running"
        gate.set()
        assert await receipts[1].result() == "undisturbed"
    info = await info_of(queue, "one")
    assert (info.state, info.attempt) == ("cancelled", 1)
    assert info.error is not None
    assert info.error.reason == "cancelled"


async def test_a_running_sync_handler_is_told(queue: Queue) -> None:
    told: list[bool] = []

    @queue.handler("task")
    def task(job: Job) -> str:
        deadline = time.monotonic() + 5
        told.append(job.cancel_requested)
        while not current_job().cancel_requested and time.monotonic() < deadline:
            time.sleep(0.005)
        told.append(job.cancel_requested)
        return "what I had so far"

    async with queue.worker():
        receipt = await queue.enqueue("task", id="one")
        await wait_until(lambda: told)
        assert await queue.cancel("one") == "running"
        with takes_at_most(1), pytest.raises(JobCancelled):
            await receipt.result()
    assert told == [False, True]
    assert (await info_of(queue, "one")).state == "cancelled"


@pytest.mark.parametrize("ending", ["returns", "raises", "retries", "swallows"])
async def test_whatever_a_cancelled_handler_does_the_job_ends_cancelled(
    queue: Queue, ending: str
) -> None:
    runs: list[int] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.attempt)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            if ending == "raises":
                raise ValueError("in the middle") from None
            if ending == "retries":
                raise Retry(0) from None
            if ending == "swallows":
                await asyncio.sleep(0.05)
        return "a result"

    async with queue.worker():
        receipt = await queue.enqueue("task", id="one")
        await wait_until(lambda: runs)
        assert await queue.cancel("one") == "running"
        with pytest.raises(JobCancelled):
            await receipt.result(5)
        await until_counted(queue, cancelled=1)
    assert runs == [1]


async def test_the_slot_of_a_cancelled_job_is_free_again(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    running: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        running.append(job.id)
        if job.payload == "hang":
            await asyncio.sleep(30)
        return "done"

    async with queue.worker():
        for n in range(3):
            await queue.enqueue("task", "hang", id=f"{n}")
            await wait_until(lambda n=n: f"{n}" in running)
            assert await queue.cancel(f"{n}") == "running"
        with takes_at_most(2):
            assert await queue.enqueue_and_wait("task") == "done"


async def test_only_the_worker_that_runs_the_job_is_told(queue: Queue) -> None:
    second = Queue("q", queue.storage.twin())
    told: list[str] = []

    async def task(job: Job) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            told.append(job.id)

    queue.handler("task")(task)
    second.handler("task")(task)
    async with second, queue.worker(concurrency=1), second.worker(concurrency=1):
        for id in ("one", "two"):
            await queue.enqueue("task", id=id)
        await until_counted(queue, running=2)
        await queue.cancel("two")
        await until_state(queue, "two", "cancelled")
        assert told == ["two"]
        await second.cancel("one")
        await until_counted(queue, cancelled=2)


async def test_a_job_that_has_ended_cannot_be_cancelled(queue: Queue) -> None:
    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.payload == "fail":
            raise ValueError("no")
        return "result"

    assert await queue.cancel("never seen") == "not_found"
    async with queue.worker():
        await queue.enqueue_and_wait("task", id="completed")
        with pytest.raises(JobFailed):
            await queue.enqueue_and_wait("task", "fail", id="failed", max_attempts=1)
        await queue.enqueue("task", id="cancelled", delay=60)
        await queue.cancel("cancelled")
        before = [await info_of(queue, id) for id in ("completed", "failed", "cancelled")]
        for info in before:
            assert await queue.cancel(info.id) == "finished"
    assert [await info_of(queue, info.id) for info in before] == before
    assert await queue.result("completed") == "result"


@pytest.mark.parametrize("how", ["raised", "returned"])
async def test_a_handler_that_cancels_its_own_job(queue: Queue, how: str) -> None:
    runs: list[int] = []

    @queue.handler("task")
    async def task(job: Job) -> Any:
        runs.append(job.attempt)
        if how == "raised":
            raise Cancel("nobody wants it")
        return Cancel("nobody wants it")

    async with queue.worker():
        with pytest.raises(JobCancelled, match="nobody wants it") as caught:
            await queue.enqueue_and_wait("task", id="one")
    assert caught.value.reason == "nobody wants it"
    assert runs == [1]
    assert await counted(queue) == {"cancelled": 1}


async def test_cancelling_twice_and_from_two_sides(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue()
    await queue.enqueue("task", id="one")
    answers = await asyncio.gather(*(each.cancel("one") for each in [queue, other] * 5))
    assert sorted(set(answers)) == ["cancelled", "finished"]
    assert answers.count("cancelled") == 1  # type: ignore[arg-type]
