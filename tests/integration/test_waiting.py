"""Waiting for results: several waiters, late waiters, large results, waits that are too short."""

from __future__ import annotations

import asyncio
import pickle
import time

import pytest

from jobqueue import (
    Job,
    JobFailed,
    JobNotFound,
    Queue,
    StorageError,
    WaitTimeout,
)
from tests.integration.asking import counted, info_of, takes_at_most, until_counted, until_state
from tests.integration.crew import Crew
from tests.integration.programs import MakeQueue, call, wait_for
from tests.support.wait import wait_until

FIVE_MB = 5_000_000


async def test_two_waiters_in_two_processes_both_get_the_answer(crew: Crew, queue: Queue) -> None:
    queue.handler("task")(lambda job: f"did {job.payload}")
    await queue.enqueue("task", "it", id="one")
    members = await crew.hire_many(2, wait_for, "one", 15)
    for member in members:
        member.go()
    async with queue.worker():
        answers = [await member.result() for member in members]
    assert [answer[:2] for answer in answers] == [["result", "did it"]] * 2


async def test_two_callers_of_one_id_in_two_processes_share_one_run(
    crew: Crew, queue: Queue
) -> None:
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.payload)
        return "the result"

    members = await crew.hire_many(2, call, "payload", "one", 15)
    for member in members:
        member.go()
    await until_counted(queue, queued=1)
    async with queue.worker():
        answers = [await member.result() for member in members]
    assert answers == [["result", "the result"]] * 2
    assert runs == ["payload"]


async def test_one_that_gives_up_takes_nothing_from_the_other(crew: Crew, queue: Queue) -> None:
    queue.handler("task")(lambda job: "the result")
    await queue.enqueue("task", id="one")
    patient = await crew.hire(wait_for, "one", 15)
    hasty = await crew.hire(wait_for, "one", 0.1)
    hasty.go()
    code, _, took = await hasty.result()
    assert code == "wait_timeout"
    assert took < 2
    patient.go()
    async with queue.worker():
        assert (await patient.result())[:2] == ["result", "the result"]


async def test_one_that_gives_up_takes_nothing_from_another_of_its_process(queue: Queue) -> None:
    gate = asyncio.Event()

    @queue.handler("task")
    async def task(job: Job) -> str:
        await gate.wait()
        return "the result"

    async with queue.worker():
        receipt = await queue.enqueue("task", id="one")
        patient = [
            asyncio.create_task(receipt.result()),
            asyncio.create_task(queue.enqueue_and_wait("task", id="one", wait=10)),
        ]
        cancelled = asyncio.create_task(queue.result("one"))
        for ask in (receipt.result(wait=0.05), queue.result("one", wait=0.05)):
            with pytest.raises(WaitTimeout):
                await ask
        with pytest.raises(WaitTimeout):
            await queue.enqueue_and_wait("task", id="one", wait=0.05)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        gate.set()
        with takes_at_most(0.5):
            assert await asyncio.gather(*patient) == ["the result"] * 2


async def test_a_waiter_that_comes_after_the_end_gets_the_result_at_once(
    make_queue: MakeQueue,
) -> None:
    queue, other = make_queue(), make_queue()
    queue.handler("task")(lambda job: "the result")
    async with queue.worker():
        receipt = await queue.enqueue("task", id="one")
        await until_state(queue, "one", "completed")
    with takes_at_most(0.5):
        assert await receipt.result() == "the result"
        assert await receipt.result() == "the result"
        assert await queue.result("one", wait=0.2) == "the result"
        assert await other.result("one", wait=0.2) == "the result"


async def test_a_result_of_five_megabytes_arrives_whole(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue()
    data = bytes(range(256)) * (FIVE_MB // 256 + 1)
    queue.handler("task")(lambda job: data)
    receipt = await queue.enqueue("task", id="one")
    waiters = [asyncio.create_task(each.result("one", wait=20)) for each in (queue, other)]
    await asyncio.sleep(0.05)
    async with queue.worker():
        assert await receipt.result(20) == data
        assert await asyncio.gather(*waiters) == [data, data]
        assert await other.enqueue_and_wait("task", id="two") == data
    again = await other.enqueue("task", id="one")
    assert again.status == "completed"
    assert await again.result() == data
    assert await other.enqueue_and_wait("task", id="one") == data
    assert (await info_of(other, "one")).result == data


async def test_two_waiters_get_a_large_result(crew: Crew, queue: Queue) -> None:
    text = "\N{EURO SIGN}" * 200_000
    queue.handler("task")(lambda job: text)
    await queue.enqueue("task", id="one")
    members = await crew.hire_many(2, wait_for, "one", 15)
    for member in members:
        member.go()
    async with queue.worker():
        assert [(await member.result())[1] for member in members] == [text, text]


async def test_wait_timeout_leaves_the_job_as_it_is(queue: Queue) -> None:
    gate = asyncio.Event()
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.id)
        await gate.wait()
        return "the result"

    with pytest.raises(WaitTimeout) as caught:  # while it is queued
        await queue.enqueue_and_wait("task", id="one", wait=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.code, caught.value.id, caught.value.wait) == ("wait_timeout", "one", 0.1)
    assert await counted(queue) == {"queued": 1}
    async with queue.worker():
        await wait_until(lambda: runs)
        with pytest.raises(WaitTimeout, match=r"queue.result\(id\)"):  # while it runs
            await queue.result("one", wait=0.1)
        assert await counted(queue) == {"running": 1}
        gate.set()
        assert await queue.result("one", wait=5) == "the result"
    assert runs == ["one"]


async def test_waiting_ends_within_its_time(queue: Queue) -> None:
    receipt = await queue.enqueue("task", id="one")
    for wait in (0.05, 0.3):
        started = time.monotonic()
        with pytest.raises(WaitTimeout):
            await receipt.result(wait)
        assert wait - 0.01 <= time.monotonic() - started < wait + 5


async def test_a_failure_arrives_with_its_error(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue()

    @queue.handler("task")
    async def task(job: Job) -> None:
        raise ValueError("no such file: a.jpg")

    async with queue.worker():
        waiter = asyncio.create_task(
            other.enqueue_and_wait("task", id="one", max_attempts=1, wait=10)
        )
        with pytest.raises(JobFailed) as caught:
            await waiter
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.id, error.code) == ("one", "job_failed")
        assert (error.error.type, error.error.message) == ("ValueError", "no such file: a.jpg")
        assert (error.error.attempts, error.error.reason) == (1, "exception")
        assert "raise ValueError" in error.error.traceback
        assert "test_waiting.py" in error.error.traceback
        assert str(error) == "job 'one' failed after 1 attempt: ValueError: no such file: a.jpg"


async def test_an_unknown_id_is_not_waited_for(queue: Queue) -> None:
    with takes_at_most(0.5):
        with pytest.raises(JobNotFound) as caught:
            await queue.result("nobody")
        with pytest.raises(JobNotFound):
            await queue.result("nobody", wait=30)
    assert pickle.loads(pickle.dumps(caught.value)).id == "nobody"
    assert await queue.get("nobody") is None


async def test_whoever_waits_when_the_queue_is_closed_hears_that(queue: Queue) -> None:
    receipt = await queue.enqueue("task", id="one")
    waiter = asyncio.create_task(receipt.result())
    await asyncio.sleep(0.1)
    await queue.close()
    with takes_at_most(0.5), pytest.raises(StorageError, match="closed"):
        await waiter
    assert (await info_of(queue, "one")).state == "queued"


async def test_many_calls_wait_at_the_same_time(make_queue: MakeQueue) -> None:
    worker, caller = make_queue(concurrency=20), make_queue()

    @worker.handler("double")
    async def double(job: Job) -> int:
        await asyncio.sleep(0.001 * (job.payload % 7))
        return 2 * job.payload

    async with worker.worker():
        with takes_at_most(10):
            results = await asyncio.gather(
                *(caller.enqueue_and_wait("double", n) for n in range(200))
            )
    assert results == [2 * n for n in range(200)]


async def test_a_call_is_answered_in_milliseconds(make_queue: MakeQueue) -> None:
    # Far from any timer: no answer may hang on a poll or on the re-check of lost messages.
    worker, caller = make_queue(), make_queue()
    worker.handler("echo")(lambda job: job.payload)
    async with worker.worker():
        await caller.enqueue_and_wait("echo", 0)
        times: list[float] = []
        for n in range(20):
            started = time.perf_counter()
            assert await caller.enqueue_and_wait("echo", n) == n
            times.append(time.perf_counter() - started)
    assert sorted(times)[10] < 0.1, times


async def test_a_result_that_expires_while_it_is_waited_for(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue()
    queue.handler("task")(lambda job: "short-lived")
    async with queue.worker():
        waiter = asyncio.create_task(
            other.enqueue_and_wait("task", id="one", result_ttl=0.05, wait=5)
        )
        assert await waiter == "short-lived"
        await until_counted(queue)
        with pytest.raises(JobNotFound):
            await other.result("one")
