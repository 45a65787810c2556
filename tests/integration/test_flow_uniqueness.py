"""One at a time, the first, the last, the newest: what producers are told, and what runs."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from jobqueue import Debounce, Job, JobSpec, KeepLast, Queue, SerializationError, Throttle, Unique
from jobqueue.options import JobOptions
from tests.integration.programs import MakeQueue
from tests.support.wait import wait_until


async def test_a_second_job_of_the_same_arguments_is_answered_with_the_first(queue: Queue) -> None:
    @queue.job(unique=True)
    async def sync_customer(customer_id: int, full: bool = False) -> str:
        return f"{customer_id} {full}"

    first = await sync_customer.enqueue(1)
    for again in (
        await sync_customer.enqueue(1),
        await sync_customer.enqueue(customer_id=1, full=False),
        await sync_customer.enqueue(full=False, customer_id=1),
        await queue.enqueue("sync_customer", {"full": False, "customer_id": 1}, unique=True),
    ):
        assert (again.id, again.status, again.state) == (first.id, "duplicate", "queued")
    other = await sync_customer.enqueue(1, full=True)
    free = await sync_customer.options(unique=False).enqueue(1)
    assert (other.status, free.status) == ("queued", "queued")
    assert len({first.id, other.id, free.id}) == 3
    async with queue.worker():
        assert await first.result(wait=5) == "1 False"
        assert await other.result(wait=5) == "1 True"
    after = await sync_customer.enqueue(1)
    assert after.status == "queued"


async def test_jobs_may_be_the_same_by_some_arguments_or_by_none(queue: Queue) -> None:
    by_customer = Unique(by="customer_id")
    first = await queue.enqueue("bill", {"customer_id": 1, "sum": 5}, unique=by_customer)
    again = await queue.enqueue("bill", {"sum": 7, "customer_id": 1}, unique=by_customer)
    other = await queue.enqueue("bill", {"customer_id": 2, "sum": 5}, unique=by_customer)
    elsewhere = await queue.enqueue("remind", {"customer_id": 1, "sum": 5}, unique=by_customer)
    assert (again.id, again.status) == (first.id, "duplicate")
    assert (other.status, elsewhere.status) == ("queued", "queued")
    first = await queue.enqueue("sweep", [1], unique=Unique(by=()))
    again = await queue.enqueue("sweep", [2], unique=Unique(by=()))
    assert (again.id, again.status) == (first.id, "duplicate")


async def test_unique_until_started_lets_the_next_one_wait(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    gate, running = asyncio.Event(), asyncio.Event()

    @queue.job(unique=Unique(until="started"))
    async def index(page: int) -> int:
        running.set()
        await gate.wait()
        return page

    first = await index.enqueue(1)
    assert (await index.enqueue(1)).status == "duplicate"
    async with queue.worker():
        await running.wait()
        second = await index.enqueue(1)
        assert (second.status, second.id != first.id) == ("queued", True)
        assert (await index.enqueue(1)).status == "duplicate"
        gate.set()
        assert await second.result(wait=5) == 1


async def test_who_waits_gets_the_result_of_the_job_that_is_there(queue: Queue) -> None:
    calls: list[int] = []
    gate = asyncio.Event()

    @queue.job(unique=Unique(by="n"))
    async def slow(n: int, who: str) -> str:
        calls.append(n)
        await gate.wait()
        return who

    async with queue.worker():
        waiting = [asyncio.create_task(slow.call(1, str(i))) for i in range(5)]
        await wait_until(lambda: calls)
        gate.set()
        results = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert len(set(results)) == 1
    assert calls == [1]


async def test_throttle_answers_with_the_first_even_after_it_has_ended(queue: Queue) -> None:
    @queue.job(throttle=600)
    async def poll() -> str:
        return "polled"

    async with queue.worker():
        first = await poll.enqueue()
        assert await first.result(wait=5) == "polled"
        again = await poll.enqueue()
        assert (again.id, again.status, await again.result(wait=5)) == (
            first.id,
            "completed",
            "polled",
        )
        assert await poll.call() == "polled"
    info = await first.info()
    assert info is not None
    assert info.unique_key == "poll"
    assert (await queue.counts())["completed"] == 1


async def test_a_throttled_job_is_remembered_for_the_whole_window(queue: Queue) -> None:
    window = Throttle(timedelta(hours=5), by=("city",))
    options = JobOptions(throttle=window, result_ttl=1)
    (receipt,) = await queue.enqueue_many([JobSpec("weather", {"city": "Rome"}, options)])
    (stored,) = await queue.storage.get("q", [receipt.id])
    assert stored is not None
    assert stored.ttl_ms == 5 * 3600 * 1000


async def test_a_window_ends(queue: Queue) -> None:
    await queue.enqueue("poll", throttle=0.15)

    async def is_new() -> bool:
        return (await queue.enqueue("poll", throttle=0.15)).status == "queued"

    await wait_until(is_new)


async def test_debounce_runs_the_last_one(queue: Queue) -> None:
    seen: list[Any] = []

    @queue.handler("save")
    async def save(job: Job) -> Any:
        seen.append(job.payload)
        return job.payload

    async with queue.worker():
        first = await queue.enqueue("save", "a", debounce=600)
        assert (first.status, first.state) == ("queued", "scheduled")
        second = await queue.enqueue("save", "ab", debounce=600)
        assert (second.id, second.status) == (first.id, "replaced")
        call = asyncio.create_task(queue.enqueue_and_wait("save", "abc", debounce=600))

        async def is_replaced() -> bool:
            info = await queue.get(first.id)
            return info is not None and info.payload == "abc"

        await wait_until(is_replaced)
        assert await queue.run_now(first.id) == "updated"
        assert await asyncio.wait_for(call, 5) == "abc"
        assert await first.result(wait=5) == "abc"
    assert seen == ["abc"]


async def test_debounce_waits_until_it_is_quiet(queue: Queue) -> None:
    @queue.handler("save")
    async def save(job: Job) -> Any:
        return job.payload

    async with queue.worker():
        started = time.monotonic()
        assert await queue.enqueue_and_wait("save", "a", debounce=0.3) == "a"
        assert time.monotonic() - started > 0.25


async def test_debounce_goes_by_arguments_and_does_not_wait_for_ever(queue: Queue) -> None:
    rule = Debounce(600, max_wait=600, by=["doc"])
    first = await queue.enqueue("save", {"doc": 1}, debounce=rule)
    other = await queue.enqueue("save", {"doc": 2}, debounce=rule)
    before = await queue.get(first.id)
    again = await queue.enqueue("save", {"doc": 1}, debounce=rule)
    after = await queue.get(first.id)
    assert (other.status, again.status, again.id) == ("queued", "replaced", first.id)
    assert before is not None
    assert after is not None
    assert before.due_at == after.due_at


async def test_keep_last_runs_one_and_keeps_the_newest(queue: Queue) -> None:
    gate = asyncio.Event()
    seen: list[int] = []

    @queue.job(keep_last=KeepLast(by="page"))
    async def render(page: str, version: int) -> int:
        seen.append(version)
        await gate.wait()
        return version

    async with queue.worker():
        first = await render.enqueue("home", 1)
        await wait_until(lambda: seen)
        second = await render.enqueue("home", 2)
        third = await render.enqueue("home", 3)
        fourth = await render.enqueue("home", 4)
        assert [r.status for r in (first, second, third, fourth)] == [
            "queued",
            "queued",
            "replaced",
            "replaced",
        ]
        assert second.id == third.id == fourth.id != first.id
        elsewhere = await render.enqueue("news", 9)
        await wait_until(lambda: 9 in seen)
        assert seen == [1, 9]
        gate.set()
        assert await fourth.result(wait=5) == 4
        assert await elsewhere.result(wait=5) == 9
    assert seen == [1, 9, 4]


@pytest.mark.parametrize(
    ("payload", "options", "error", "message"),
    [
        ({"a": 1}, {"unique": Unique(by="b")}, ValueError, r"unique by 'b'.*it has: a$"),
        ([1], {"throttle": Throttle(1, by="b")}, TypeError, "throttle by 'b' needs a payload"),
        (None, {"debounce": Debounce(1, by="b")}, TypeError, "debounce by 'b' needs a payload"),
        ({"a": 1}, {"keep_last": KeepLast(by="b")}, ValueError, "keep_last by 'b'"),
        ({}, {"unique": True, "throttle": 1}, ValueError, "unique or throttle"),
        ({}, {"unique": 1}, TypeError, "unique must be"),
        ({}, {"throttle": True}, TypeError, "throttle must be seconds"),
        ({}, {"debounce": 0}, ValueError, "debounce must be more than 0"),
        ({}, {"debounce": 1, "delay": 2}, ValueError, "debounce, or delay or run_at"),
        ({}, {"keep_last": "yes"}, TypeError, "keep_last must be"),
        (object(), {"unique": True}, SerializationError, "payload"),
    ],
)
async def test_what_does_not_fit_is_refused_with_nothing_stored(
    queue: Queue, payload: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await queue.enqueue("task", payload, **options)
    assert sum((await queue.counts()).values()) == 0


async def test_an_argument_that_a_job_type_does_not_have_is_found_at_once(queue: Queue) -> None:
    async def mail(to: str) -> None: ...

    with pytest.raises(ValueError, match=r"'mail' names the argument 'too'; it has: to"):
        queue.job(unique=Unique(by="too"))(mail)


async def test_many_producers_store_one(make_queue: MakeQueue) -> None:
    queues = [make_queue() for _ in range(4)]
    receipts = await asyncio.gather(
        *(queue.enqueue("task", {"n": 1}, unique=True) for queue in queues for _ in range(10))
    )
    assert len({receipt.id for receipt in receipts}) == 1
    assert sorted(receipt.status for receipt in receipts).count("queued") == 1
    assert sum((await queues[0].counts()).values()) == 1
