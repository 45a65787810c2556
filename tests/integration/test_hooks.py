"""Hooks: called where it happened; none of them can do harm."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from jobqueue import (
    Cancel,
    Execution,
    Fixed,
    Immediate,
    Job,
    JobCancelled,
    JobFailed,
    JobSpec,
    Queue,
    Snooze,
)
from jobqueue.hooks import HookEvent
from tests.integration.asking import info_of, until_counted, until_state
from tests.integration.programs import MakeQueue
from tests.support.wait import wait_until

ALL = (
    "enqueued",
    "started",
    "completed",
    "retrying",
    "failed",
    "cancelled",
    "stalled",
    "released",
)


def _record(queue: Queue) -> list[HookEvent]:
    """Note every event that the hooks of this queue hear, sync and async ones in turn."""
    heard: list[HookEvent] = []
    for n, type in enumerate(ALL):
        if n % 2:
            queue.on(type)(heard.append)
        else:

            @queue.on(type)
            async def hear(event: HookEvent) -> None:
                await asyncio.sleep(0)
                heard.append(event)

    return heard


def _types(heard: list[HookEvent], id: str) -> list[tuple[str, int]]:
    """What was heard of one job; the producer may hear of it later than the worker starts it."""
    types = [(str(event.type), event.attempt) for event in heard if event.id == id]
    return sorted(types, key=lambda each: each[0] != "enqueued")


async def test_the_events_of_a_life(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Fixed(0.1), worker_id="the worker")
    heard = _record(queue)

    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.payload == "snooze" and len(_types(heard, job.id)) < 4:
            raise Snooze(0.1)
        if job.payload == "cancel":
            raise Cancel("enough")
        if job.payload == "fail" or (job.payload == "flaky" and job.attempt == 1):
            raise ValueError(f"at {job.attempt}")
        return "result"

    async with queue.worker():
        for payload in ("plain", "flaky", "fail", "cancel", "snooze"):
            await queue.enqueue("task", payload, id=payload, max_attempts=2)
        await until_counted(queue, completed=3, failed=1, cancelled=1)
        await queue.enqueue("task", id="waiting", delay=60)
        await queue.enqueue("task", id="waiting")  # a duplicate is no news
        await queue.cancel("waiting")
        ends = {"completed", "failed", "cancelled"}
        await wait_until(lambda: sum(event.type in ends for event in heard) >= 5)
    assert _types(heard, "plain") == [("enqueued", 0), ("started", 1), ("completed", 1)]
    assert _types(heard, "flaky") == [
        ("enqueued", 0),
        ("started", 1),
        ("retrying", 1),
        ("started", 2),
        ("completed", 2),
    ]
    assert _types(heard, "fail")[2:] == [("retrying", 1), ("started", 2), ("failed", 2)]
    assert _types(heard, "cancel") == [("enqueued", 0), ("started", 1), ("cancelled", 1)]
    assert [type for type, _ in _types(heard, "snooze")] == [
        "enqueued",
        "started",
        "released",
        "started",
        "completed",
    ]
    assert _types(heard, "waiting")[0] == ("enqueued", 0)
    for event in heard:
        assert (event.queue, event.name) == ("q", "task")
        assert event.at.tzinfo is not None
        assert event.worker in ((None,) if event.type == "enqueued" else (None, "the worker"))
    by = {(str(event.type), event.id): event for event in heard}
    assert by["completed", "plain"].result == "result"
    assert by["completed", "plain"].error is None
    assert by["retrying", "flaky"].error is not None
    assert by["retrying", "flaky"].error.message == "at 1"
    assert by["failed", "fail"].error is not None
    assert by["failed", "fail"].error.type == "ValueError"
    assert by["cancelled", "cancel"].error is not None
    assert by["cancelled", "cancel"].error.message == "enough"


async def test_hooks_are_called_in_the_process_where_it_happened(make_queue: MakeQueue) -> None:
    producer, worker = make_queue(), make_queue()
    at_producer, at_worker = _record(producer), _record(worker)
    worker.handler("task")(lambda job: None)
    async with worker.worker():
        await producer.enqueue_and_wait("task", id="one")
        await wait_until(lambda: len(at_worker) == 2)
    assert _types(at_producer, "one") == [("enqueued", 0)]
    assert _types(at_worker, "one") == [("started", 1), ("completed", 1)]


async def test_enqueue_many_tells_each(queue: Queue) -> None:
    heard = _record(queue)
    receipts = await queue.enqueue_many([JobSpec("task") for _ in range(5)])
    assert [event.id for event in heard] == [receipt.id for receipt in receipts]


async def test_a_released_job_is_told(make_queue: MakeQueue) -> None:
    queue = make_queue(grace=0)
    heard = _record(queue)

    @queue.handler("task")
    async def task(job: Job) -> None:
        await asyncio.sleep(30)

    async with queue.worker():
        await queue.enqueue("task", id="one")
        await until_counted(queue, running=1)
    assert _types(heard, "one")[-1] == ("released", 1)


@pytest.mark.parametrize("error", [ValueError, KeyError, asyncio.InvalidStateError])
async def test_a_hook_that_raises_changes_nothing(
    make_queue: MakeQueue, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(retry=Immediate())
    for type in ALL:

        @queue.on(type)
        async def hook(event: Any) -> None:
            raise error("the hook")

        @queue.on(type)
        def sync_hook(event: Any) -> None:
            raise error("the sync hook")

    heard = _record(queue)

    @queue.after_execution
    def after(execution: Execution) -> None:
        execution.result = "half changed"
        execution.error = None
        raise error("after_execution")

    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.payload == "fail":
            raise ValueError
        return "result"

    with caplog.at_level(logging.CRITICAL, "jobqueue"):
        async with queue.worker():
            assert await queue.enqueue_and_wait("task", id="one") == "result"
            with pytest.raises(JobFailed):
                await queue.enqueue_and_wait("task", "fail", max_attempts=2)
            await wait_until(lambda: ("completed", 1) in _types(heard, "one"))
    # Those that were registered after the bad ones heard it all the same.
    assert _types(heard, "one") == [("enqueued", 0), ("started", 1), ("completed", 1)]


async def test_there_are_no_other_events(queue: Queue) -> None:
    with pytest.raises(ValueError, match=r"'finished'.*enqueued"):
        queue.on("finished")(print)


# -- after_execution -------------------------------------------------------------------------------


async def test_after_execution_changes_the_result(queue: Queue) -> None:
    seen: list[Any] = []

    @queue.after_execution
    async def after(execution: Execution) -> None:
        seen.append((execution.job.id, execution.result, execution.error, execution.result_ttl))
        execution.result = {"wrapped": execution.result}

    queue.handler("task")(lambda job: "result")
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", id="one", result_ttl=50) == {
            "wrapped": "result"
        }
    assert seen == [("one", "result", None, 50)]
    assert (await info_of(queue, "one")).result == {"wrapped": "result"}


async def test_after_execution_changes_the_error(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Immediate())

    @queue.after_execution
    def after(execution: Execution) -> None:
        match execution.job.payload:
            case "mend":
                execution.error, execution.result = None, "mended"
            case "break":
                execution.error = PermissionError("not for you")
            case "give up":
                execution.error = Cancel("after all")
            case _:
                pass

    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.payload != "break":
            raise ValueError
        return "a result"

    async with queue.worker():
        assert await queue.enqueue_and_wait("task", "mend") == "mended"
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("task", "break", max_attempts=2)
        assert (caught.value.error.type, caught.value.error.attempts) == ("PermissionError", 2)
        with pytest.raises(JobCancelled, match="after all"):
            await queue.enqueue_and_wait("task", "give up")


async def test_after_execution_changes_the_time_to_live(make_queue: MakeQueue) -> None:
    queue = make_queue(max_attempts=1)

    @queue.after_execution
    def after(execution: Execution) -> None:
        execution.result_ttl = 0.3 if execution.error is None else 100

    @queue.handler("task")
    async def task(job: Job) -> None:
        if job.payload == "fail":
            raise ValueError

    async with queue.worker():
        await queue.enqueue("task", "fail", id="kept")
        await queue.enqueue_and_wait("task", id="short")
        info = await until_state(queue, "kept", "failed")
        assert info.expires_at is not None
        assert info.finished_at is not None
        assert 99 <= (info.expires_at - info.finished_at).total_seconds() <= 101
        await until_counted(queue, failed=1)


async def test_after_execution_with_a_bad_time_to_live(queue: Queue) -> None:
    bad: list[Any] = [0, -1, float("nan"), float("inf"), "long", None, True]

    @queue.after_execution
    def after(execution: Execution) -> None:
        execution.result = "changed all the same"
        execution.result_ttl = bad[execution.job.payload]

    queue.handler("task")(lambda job: "result")
    async with queue.worker():
        for n in range(len(bad)):
            receipt = await queue.enqueue("task", n, result_ttl=70)
            assert await receipt.result(5) == "changed all the same"
            info = await info_of(queue, receipt.id)
            assert info.expires_at is not None
            assert info.finished_at is not None
            assert 69 <= (info.expires_at - info.finished_at).total_seconds() <= 71


async def test_after_execution_sees_each_attempt(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Fixed(0.01))
    seen: list[tuple[int, str]] = []

    @queue.after_execution
    def after(execution: Execution) -> None:
        seen.append((execution.job.attempt, type(execution.error).__name__))

    @queue.handler("task")
    def task(job: Job) -> None:
        if job.attempt < 3:
            raise ValueError

    async with queue.worker():
        await queue.enqueue_and_wait("task", wait=5)
    assert seen == [(1, "ValueError"), (2, "ValueError"), (3, "NoneType")]


async def test_a_result_of_after_execution_that_cannot_be_serialised(queue: Queue) -> None:
    @queue.after_execution
    def after(execution: Execution) -> None:
        execution.result = object()

    queue.handler("task")(lambda job: "result")
    async with queue.worker():
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("task", wait=5)
    assert caught.value.error.reason == "unserialisable"
