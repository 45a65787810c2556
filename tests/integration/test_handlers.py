"""Handlers of every kind, what they see, and what they return."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobqueue import ConfigurationError, Job, Queue, current_job
from tests.integration.asking import info_of, takes_at_most
from tests.integration.programs import MakeQueue


async def test_a_handler_that_returns_nothing_completes_with_none(queue: Queue) -> None:
    @queue.handler("async")
    async def task(job: Job) -> None: ...

    @queue.handler("sync")
    def sync_task(job: Job) -> None: ...

    async with queue.worker():
        for name in ("async", "sync"):
            assert await queue.enqueue_and_wait(name, id=name) is None
            info = await info_of(queue, name)
            assert (info.state, info.result, info.error) == ("completed", None, None)


class _Callable:
    async def __call__(self, job: Job) -> str:
        return f"object {job.payload}"


async def _with_argument(prefix: str, job: Job) -> str:
    return f"{prefix} {job.payload}"


async def test_every_kind_of_callable_is_a_handler(queue: Queue) -> None:
    queue.handler("object")(_Callable())
    queue.handler("partial")(functools.partial(_with_argument, "partial"))
    queue.handler("lambda")(lambda job: f"lambda {job.payload}")
    queue.handler("builtin")(repr)
    async with queue.worker():
        assert await queue.enqueue_and_wait("object", 1) == "object 1"
        assert await queue.enqueue_and_wait("partial", 2) == "partial 2"
        assert await queue.enqueue_and_wait("lambda", 3) == "lambda 3"
        assert "'builtin'" in await queue.enqueue_and_wait("builtin", 4)


async def test_a_handler_without_a_name_serves_all_other_names(queue: Queue) -> None:
    queue.handler("mine")(lambda job: "mine")
    queue.handler()(lambda job: f"other: {job.name}")
    async with queue.worker():
        assert await queue.enqueue_and_wait("mine") == "mine"
        assert await queue.enqueue_and_wait("another") == "other: another"
        assert await queue.enqueue_and_wait("*") == "other: *"


async def test_a_name_is_registered_once(queue: Queue) -> None:
    queue.handler("task")(lambda job: None)
    queue.handler()(lambda job: None)
    for name in ("task", None):
        with pytest.raises(ConfigurationError, match="registered already"):
            queue.handler(name)(lambda job: None)
    with pytest.raises(TypeError, match="function"):
        queue.handler("x")("no function")  # type: ignore[type-var]


async def test_a_sync_handler_never_blocks_the_loop(queue: Queue) -> None:
    threads: set[int] = set()

    @queue.handler("slow")
    def slow(job: Job) -> None:
        threads.add(threading.get_ident())
        time.sleep(0.3)

    queue.handler("quick")(_Callable())
    async with queue.worker():
        slow_ones = [await queue.enqueue("slow") for _ in range(5)]
        with takes_at_most(0.25):
            assert await queue.enqueue_and_wait("quick", 0) == "object 0"
        with takes_at_most(1):  # side by side
            for receipt in slow_ones:
                await receipt.result()
    assert len(threads) == 5
    assert threading.get_ident() not in threads


async def test_as_many_sync_handlers_run_as_the_concurrency_says(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=50)
    together = threading.Barrier(50, timeout=10)
    queue.handler("meet")(lambda job: together.wait() >= 0)
    async with queue.worker():
        receipts = [await queue.enqueue("meet") for _ in range(50)]
        for receipt in receipts:
            assert await receipt.result(10) is True


async def test_current_job_in_async_and_sync_handlers(queue: Queue) -> None:
    def see(job: Job) -> list[Any]:
        assert current_job() is job
        return [job.id, job.name, job.payload, job.attempt, job.max_attempts, job.queue]

    @queue.handler("async", timeout=60)
    async def async_task(job: Job) -> list[Any]:
        await asyncio.sleep(0)
        assert job.deadline is not None
        assert timedelta(seconds=55) < job.deadline - datetime.now(UTC) <= timedelta(seconds=60)
        return await asyncio.create_task(_in_a_task(job))

    async def _in_a_task(job: Job) -> list[Any]:
        return see(current_job())

    @queue.handler("sync")
    def sync_task(job: Job) -> list[Any]:
        assert job.deadline is None
        assert not job.cancel_requested
        assert abs(datetime.now(UTC) - job.enqueued_at) < timedelta(seconds=30)
        return see(job)

    async with queue.worker():
        for name in ("async", "sync"):
            answer = await queue.enqueue_and_wait(name, {"a": 1}, id=f"id-{name}", max_attempts=2)
            assert answer == [f"id-{name}", name, {"a": 1}, 1, 2, "q"]
    with pytest.raises(LookupError, match="inside a handler"):
        current_job()


async def test_each_of_many_jobs_at_once_sees_itself(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=20)

    @queue.handler("async")
    async def async_task(job: Job) -> bool:
        for _ in range(5):
            await asyncio.sleep(0.001)
            assert current_job() is job
        return current_job().id == job.id

    @queue.handler("sync")
    def sync_task(job: Job) -> bool:
        time.sleep(0.002)
        return current_job() is job

    async with queue.worker():
        calls = [queue.enqueue_and_wait(name) for name in ("async", "sync") for _ in range(40)]
        assert await asyncio.gather(*calls) == [True] * 80


async def test_a_handler_uses_the_queue_itself(queue: Queue) -> None:
    @queue.handler("parent")
    async def parent(job: Job) -> int:
        children = await asyncio.gather(
            *(queue.enqueue_and_wait("child", n) for n in range(job.payload))
        )
        return sum(children)

    queue.handler("child")(lambda job: job.payload * 10)
    async with queue.worker():
        assert await queue.enqueue_and_wait("parent", 5) == 100


async def test_a_worker_inside_an_application_keeps_the_queue_usable(queue: Queue) -> None:
    queue.handler("echo")(lambda job: job.payload)
    for n in range(3):
        async with queue.worker():
            assert await queue.enqueue_and_wait("echo", n) == n
        receipt = await queue.enqueue("echo", n)  # after the worker's end
        assert (await info_of(queue, receipt.id)).state == "queued"
        await queue.cancel(receipt.id)


async def test_what_a_handler_left_behind_cannot_take_its_outcome_away(queue: Queue) -> None:
    """It may cancel the task that it ran in when it has long returned."""
    runs: list[str] = []
    settle = queue.storage.finish

    async def settle_slowly(*arguments: Any) -> Any:
        await asyncio.sleep(0.1)
        return await settle(*arguments)

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.id)
        own = asyncio.current_task()
        assert own is not None
        asyncio.get_running_loop().call_later(0.05, own.cancel)
        return "done"

    queue.storage.finish = settle_slowly  # type: ignore[method-assign]
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", id="a", wait=5) == "done"
    assert runs == ["a"]
