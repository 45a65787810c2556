"""``queue.events()``: what happens on all workers, heard anywhere."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue import Event, Immediate, Job, Queue
from tests.integration.asking import takes_at_most, until_counted
from tests.integration.programs import MakeQueue
from tests.support.wait import wait_until


async def test_events_of_other_processes_arrive_in_order(make_queue: MakeQueue) -> None:
    producer, worker, listener = make_queue(), make_queue(worker_id="w"), make_queue()

    @worker.handler("task")
    async def task(job: Job) -> None:
        if job.payload == "flaky" and job.attempt == 1:
            raise ValueError

    heard: list[Event] = []
    async with listener.events() as events, worker.worker():
        await producer.enqueue("task", id="one")
        await producer.enqueue("task", "flaky", id="two", retry=Immediate())
        await producer.enqueue("task", id="three", delay=60)
        await producer.cancel("three")
        with takes_at_most(5):
            async for event in events:
                heard.append(event)
                if len(heard) == 10:
                    break

    def of(id: str) -> list[tuple[str, int, str | None]]:
        return [(str(each.type), each.attempt, each.worker) for each in heard if each.id == id]

    assert of("one") == [("enqueued", 0, None), ("started", 1, "w"), ("completed", 1, "w")]
    assert of("two") == [
        ("enqueued", 0, None),
        ("started", 1, "w"),
        ("retrying", 1, "w"),
        ("started", 2, "w"),
        ("completed", 2, "w"),
    ]
    assert of("three") == [("enqueued", 0, None), ("cancelled", 0, None)]
    assert {(event.queue, event.name) for event in heard} == {("q", "task")}
    assert all(event.at.tzinfo is not None for event in heard)


async def test_two_listeners_hear_everything(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue()
    heard: dict[int, list[str]] = {0: [], 1: [], 2: []}

    async def listen(n: int, where: Queue) -> None:
        async for event in where.events():
            heard[n].append(event.id)

    tasks = [asyncio.create_task(listen(n, where)) for n, where in enumerate([queue, queue, other])]
    await asyncio.sleep(0.2)  # listening begins with the first step
    ids = [(await queue.enqueue("task")).id for _ in range(50)]
    await wait_until(lambda: all(each == ids for each in heard.values()))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_closing_the_queue_ends_its_streams(queue: Queue) -> None:
    heard: list[str] = []

    async def listen() -> str:
        async for event in queue.events():
            heard.append(event.id)
        return "ended"

    listener = asyncio.create_task(listen())
    async with queue.events() as other:
        await queue.enqueue("task", id="one")
        assert (await anext(other)).id == "one"
        await wait_until(lambda: heard)
        await queue.close()
        with takes_at_most(1):
            assert await listener == "ended"
        with pytest.raises(StopAsyncIteration):
            await anext(other)
        with pytest.raises(StopAsyncIteration):
            await anext(other)


async def test_what_came_before_the_end_is_still_read(queue: Queue) -> None:
    events = queue.events()
    async with events:
        await queue.enqueue("task", id="one")
        assert (await anext(events)).id == "one"
        await queue.enqueue("task", id="two")
        await until_counted(queue, queued=2)
        await asyncio.sleep(0.1)
    await events.aclose()
    assert [event.id async for event in events] == ["two"]


async def test_listening_costs_the_workers_nothing_when_it_is_slow(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=50)
    queue.handler("task")(lambda job: job.payload)
    async with queue.events(), queue.worker():  # nobody reads
        with takes_at_most(5):
            calls = (queue.enqueue_and_wait("task", n) for n in range(200))
            assert await asyncio.gather(*calls) == list(range(200))
