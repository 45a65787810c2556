"""An id is new once: what a second enqueue of it is answered, in each state, until its TTL."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from jobqueue import Fixed, Job, JobFailed, JobNotFound, JobSpec, Queue
from jobqueue.options import JobOptions
from tests.integration.crew import Crew
from tests.integration.programs import MakeQueue, enqueue_at_once
from tests.support.wait import wait_until


def _same_id(id: str, payload: object) -> JobSpec[object]:
    return JobSpec("task", payload, JobOptions(id=id))


async def test_a_new_id_is_queued(queue: Queue) -> None:
    receipt = await queue.enqueue("task", {"a": 1}, id="one")
    assert (receipt.id, receipt.status, receipt.state) == ("one", "queued", "queued")
    info = await receipt.info()
    assert info is not None
    assert (info.id, info.name, info.payload, info.state) == ("one", "task", {"a": 1}, "queued")
    assert (info.attempt, info.max_attempts, info.queue) == (0, 3, "q")


async def test_ids_are_made_new_and_in_order(queue: Queue) -> None:
    receipts = [await queue.enqueue("task", n) for n in range(50)]
    ids = [receipt.id for receipt in receipts]
    assert len(set(ids)) == 50
    assert [id[:12] for id in ids] == sorted(id[:12] for id in ids)
    assert {receipt.status for receipt in receipts} == {"queued"}


async def test_an_id_that_has_not_ended_is_a_duplicate_and_the_first_payload_wins(
    make_queue: MakeQueue,
) -> None:
    queue, other = make_queue(retry=Fixed(60)), make_queue()
    gate = asyncio.Event()
    seen: list[object] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        seen.append(job.payload)
        await gate.wait()
        raise RuntimeError("once more")

    async def again(expected: str) -> None:
        for again in (queue, other):
            receipt = await again.enqueue("another", "second", id="one")
            assert (receipt.status, receipt.state) == ("duplicate", expected)
            info = await again.get("one")
            assert info is not None
            assert (info.name, info.payload, info.state) == ("task", "first", expected)

    await queue.enqueue("task", "first", id="one", delay=0.2)
    await again("scheduled")
    async with queue.worker():
        await wait_until(lambda: seen)
        await again("running")
        gate.set()
        await wait_until(lambda: _state_is(queue, "one", "retrying"))
        await again("retrying")
    assert seen == ["first"]
    assert (await queue.counts())["retrying"] == 1


async def test_a_queued_id_is_a_duplicate(queue: Queue) -> None:
    await queue.enqueue("task", "first", id="one")
    receipt = await queue.enqueue("task", "second", id="one")
    assert (receipt.status, receipt.state) == ("duplicate", "queued")
    info = await queue.get("one")
    assert info is not None
    assert info.payload == "first"


async def test_a_completed_id_gives_its_result_at_once_and_does_not_run_again(
    make_queue: MakeQueue,
) -> None:
    queue, other = make_queue(), make_queue()
    runs: list[object] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.payload)
        return "the result"

    async with queue.worker():
        assert await queue.enqueue_and_wait("task", 1, id="one") == "the result"
    for again in (queue, other):  # no worker runs any more
        receipt = await again.enqueue("task", 2, id="one")
        assert (receipt.status, receipt.state) == ("completed", "completed")
        assert await receipt.result() == "the result"
        assert await again.enqueue_and_wait("task", 3, id="one", wait=0.5) == "the result"
    assert runs == [1]


async def test_a_result_of_none_is_a_result_too(queue: Queue) -> None:
    @queue.handler("task")
    async def task(job: Job) -> None: ...

    async with queue.worker():
        assert await queue.enqueue_and_wait("task", id="one") is None
    receipt = await queue.enqueue("task", id="one")
    assert receipt.status == "completed"
    assert await receipt.result() is None


async def test_a_failed_id_is_a_duplicate_whose_result_raises(make_queue: MakeQueue) -> None:
    queue, other = make_queue(max_attempts=1), make_queue()
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.append(job.id)
        raise ValueError("never")

    async with queue.worker():
        with pytest.raises(JobFailed, match="ValueError: never"):
            await queue.enqueue_and_wait("task", id="one")
        for again in (queue, other):
            receipt = await again.enqueue("task", id="one")
            assert (receipt.status, receipt.state) == ("duplicate", "failed")
            with pytest.raises(JobFailed, match="ValueError: never"):
                await receipt.result()
            with pytest.raises(JobFailed, match="ValueError: never"):
                await again.enqueue_and_wait("task", id="one")
    assert runs == ["one"]


@pytest.mark.parametrize("ends", ["completed", "failed", "cancelled"])
async def test_result_error_state_and_id_expire_together(queue: Queue, ends: str) -> None:
    @queue.handler("task")
    async def task(job: Job) -> str:
        if ends == "failed":
            raise ValueError(job.id)
        return job.id

    await queue.enqueue("task", "first", id="one", max_attempts=1, result_ttl=0.4)
    if ends == "cancelled":
        await queue.cancel("one")
    async with queue.worker():
        await wait_until(lambda: _state_is(queue, "one", ends))

    async def gone() -> bool:
        # Whatever is asked, and in whatever order: all of it is there, or nothing.
        before = await queue.get("one")
        result = await _result(queue, "one")
        after = await queue.get("one")
        if before is None:
            assert (result, after) == ("not found", None)
            assert (await queue.counts())[ends] == 0
            return True
        if after is not None:
            assert after.state == ends
            assert result != "not found"
        return False

    await wait_until(gone, 3)
    receipt = await queue.enqueue("task", "second", id="one")
    assert (receipt.status, receipt.state) == ("queued", "queued")
    info = await queue.get("one")
    assert info is not None
    assert (info.payload, info.attempt, info.error, info.result) == ("second", 0, None, None)


async def test_fifty_concurrent_enqueues_from_five_processes_queue_one(
    crew: Crew, queue: Queue
) -> None:
    members = await crew.hire_many(5, enqueue_at_once, "one", 10)
    for member in members:
        member.go()
    answers = [await member.result() for member in members]
    assert Counter(status for statuses in answers for status in statuses) == {
        "queued": 1,
        "duplicate": 49,
    }
    assert (await queue.counts())["queued"] == 1
    runs: list[object] = []
    queue.handler("task")(lambda job: runs.append(job.payload))
    async with queue.worker():
        await queue.result("one", wait=5)
    assert len(runs) == 1


async def test_fifty_concurrent_enqueues_of_one_process_queue_one(queue: Queue) -> None:
    receipts = await asyncio.gather(*(queue.enqueue("task", n, id="one") for n in range(50)))
    assert Counter(str(receipt.status) for receipt in receipts) == {"queued": 1, "duplicate": 49}


async def test_one_id_twice_in_one_call(queue: Queue) -> None:
    specs = [_same_id("one", n) for n in range(3)] + [_same_id("two", 0)]
    receipts = await queue.enqueue_many(specs)
    assert [str(receipt.status) for receipt in receipts] == [
        "queued",
        "duplicate",
        "duplicate",
        "queued",
    ]
    info = await queue.get("one")
    assert info is not None
    assert info.payload == 0


async def _state_is(queue: Queue, id: str, state: str) -> bool:
    info = await queue.get(id)
    return info is not None and info.state == state


async def _result(queue: Queue, id: str) -> object:
    try:
        return await queue.result(id, wait=5)
    except JobNotFound:
        return "not found"
    except Exception as error:
        return error
