"""The time that one attempt may run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from jobqueue import Fixed, Immediate, Job, JobFailed, Queue, current_job
from tests.integration.asking import counted, info_of, takes_at_most, until_state
from tests.integration.programs import MakeQueue
from tests.support.wait import wait_until


async def test_an_async_handler_is_cancelled_when_its_time_is_up(queue: Queue) -> None:
    told: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async with queue.worker():
        started = time.monotonic()
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("task", timeout=0.2, max_attempts=1, wait=5)
        assert 0.19 < time.monotonic() - started < 5
    assert told == ["cancelled"]
    assert (caught.value.error.type, caught.value.error.reason) == ("TimeoutError", "timeout")
    assert await counted(queue) == {"failed": 1}


async def test_nobody_waits_for_a_sync_handler_whose_time_is_up(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=2, grace=0)
    free = threading.Event()
    told: list[bool] = []

    @queue.handler("task")
    def task(job: Job) -> str:
        free.wait(20)
        told.append(current_job().cancel_requested)
        return "too late"

    queue.handler("quick")(lambda job: "quick")
    try:
        async with queue.worker():
            with takes_at_most(1), pytest.raises(JobFailed, match="ran longer") as caught:
                await queue.enqueue_and_wait("task", id="one", timeout=0.2, max_attempts=1)
            assert caught.value.error.reason == "timeout"
            with takes_at_most(1):
                assert await queue.enqueue_and_wait("quick", timeout=0.5) == "quick"
            free.set()
            await wait_until(lambda: told)
            assert told == [True]
            await asyncio.sleep(0.05)
            assert (await info_of(queue, "one")).state == "failed"
    finally:
        free.set()


async def test_a_thread_that_overruns_keeps_its_slot(make_queue: MakeQueue) -> None:
    # Otherwise each such job would add a thread; and the next one must not pay for it with its
    # own time.
    queue = make_queue(concurrency=1, grace=0)
    free = threading.Event()
    running = 0
    most = 0

    @queue.handler("task")
    def task(job: Job) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if job.payload == "block":
            free.wait(20)
        running -= 1
        return "done"

    try:
        async with queue.worker():
            await queue.enqueue("task", "block", id="one", timeout=0.1, max_attempts=1)
            second = await queue.enqueue("task", timeout=0.3, max_attempts=1)
            await until_state(queue, "one", "failed")
            await asyncio.sleep(0.4)
            assert (await info_of(queue, second.id)).state == "queued"
            free.set()
            assert await second.result(5) == "done"
    finally:
        free.set()
    assert most == 1


async def test_a_timeout_is_retried_as_timeout_error(make_queue: MakeQueue) -> None:
    seen: list[tuple[int, str]] = []

    def backoff(attempt: int, error: BaseException) -> float:
        seen.append((attempt, type(error).__name__))
        return 0.01

    queue = make_queue(retry=backoff)

    @queue.handler("task")
    async def task(job: Job) -> int:
        if job.attempt < 3:
            await asyncio.sleep(30)
        return job.attempt

    @queue.handler("hopeless", retry=Immediate(), give_up_on=(TimeoutError,))
    async def hopeless(job: Job) -> None:
        await asyncio.sleep(30)

    async with queue.worker():
        assert await queue.enqueue_and_wait("task", timeout=0.1, wait=5) == 3
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("hopeless", timeout=0.1, wait=5)
    assert seen == [(1, "TimeoutError"), (2, "TimeoutError")]
    assert caught.value.error.attempts == 1


async def test_each_attempt_has_the_whole_time(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Fixed(0.01), timeout=0.5)

    @queue.handler("task")
    async def task(job: Job) -> int:
        await asyncio.sleep(0.3)
        if job.attempt < 3:
            raise ValueError
        return job.attempt

    async with queue.worker():
        assert await queue.enqueue_and_wait("task", wait=5) == 3


@pytest.mark.parametrize("layer", ["queue", "handler", "call", "call in timedelta"])
async def test_the_closest_layer_counts(make_queue: MakeQueue, layer: str) -> None:
    of_queue: dict[str, Any] = {"timeout": 0.1 if layer == "queue" else 30}
    of_handler: dict[str, Any] = {"timeout": 0.1} if layer == "handler" else {}
    of_call: dict[str, Any] = {}
    if layer.startswith("call"):
        of_call["timeout"] = 0.1 if layer == "call" else timedelta(milliseconds=100)
        of_handler = {"timeout": 30}
    queue = make_queue(max_attempts=1, **of_queue)

    @queue.handler("task", **of_handler)
    async def task(job: Job) -> None:
        await asyncio.sleep(20)

    async with queue.worker():
        with takes_at_most(2), pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("task", wait=10, **of_call)
    assert caught.value.error.reason == "timeout"


async def test_none_takes_a_limit_away(make_queue: MakeQueue) -> None:
    queue = make_queue(timeout=0.1, max_attempts=1)

    async def task(job: Job) -> bool:
        await asyncio.sleep(0.3)
        return job.deadline is None

    queue.handler("of the handler", timeout=None)(task)
    queue.handler("of the call")(task)
    async with queue.worker():
        assert await queue.enqueue_and_wait("of the handler", wait=5) is True
        assert await queue.enqueue_and_wait("of the call", timeout=None, wait=5) is True


async def test_what_ends_in_time_is_not_touched(make_queue: MakeQueue) -> None:
    queue = make_queue(timeout=0.4, concurrency=10)

    @queue.handler("async")
    async def async_task(job: Job) -> float:
        await asyncio.sleep(job.payload)
        return job.payload

    @queue.handler("sync")
    def sync_task(job: Job) -> float:
        time.sleep(job.payload)
        return job.payload

    async with queue.worker():
        calls = [
            queue.enqueue_and_wait(name, n / 100, wait=10, max_attempts=1)
            for n in range(10)
            for name in ("async", "sync")
        ]
        assert await asyncio.gather(*calls) == [n / 100 for n in range(10) for _ in range(2)]


async def test_a_handlers_own_timeout_is_an_ordinary_error(queue: Queue) -> None:
    @queue.handler("task")
    async def task(job: Job) -> None:
        async with asyncio.timeout(0.05):
            await asyncio.sleep(30)

    async with queue.worker():
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("task", timeout=20, max_attempts=1, wait=5)
    assert (caught.value.error.type, caught.value.error.reason) == ("TimeoutError", "exception")


async def test_a_handler_that_swallows_its_timeout_and_returns(queue: Queue) -> None:
    @queue.handler("task")
    async def task(job: Job) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return "what I had so far"

    queue.handler("good")(lambda job: "good")
    async with queue.worker():
        receipt = await queue.enqueue("task", timeout=0.1, max_attempts=1)
        assert await receipt.result(5) == "what I had so far"
        assert await queue.enqueue_and_wait("good", wait=5) == "good"


async def test_many_timeouts_at_the_same_time(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=20, max_attempts=1)

    @queue.handler("task")
    async def task(job: Job) -> None:
        await asyncio.sleep(30)

    async with queue.worker():
        receipts = [await queue.enqueue("task", timeout=0.2) for _ in range(20)]
        with takes_at_most(2):
            for receipt in receipts:
                with pytest.raises(JobFailed):
                    await receipt.result(5)
    assert await counted(queue) == {"failed": 20}
