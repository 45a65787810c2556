"""Limits that users declare and set: what runs at once, who wins, what is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobqueue import ConfigurationError, Job, JobSpec, Limit, Queue, Rate
from jobqueue.options import JobOptions
from tests.integration.asking import until_counted
from tests.integration.programs import MakeQueue
from tests.support.wait import wait_until


class Running:
    """Counts what runs at once, by key."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.ended: list[str] = []

    async def work(self, key: str, until: Callable[[], Awaitable[Any]] | None = None) -> None:
        for each in (key, "all"):
            self.now[each] += 1
            self.most[each] = max(self.most[each], self.now[each])
        await (until() if until is not None else asyncio.sleep(0.005))
        for each in (key, "all"):
            self.now[each] -= 1
        self.ended.append(key)


async def test_a_declared_limit_holds_for_each_key_and_for_all(queue: Queue) -> None:
    running = Running()

    @queue.job(limits=[Limit(concurrency=3), Limit(concurrency=1, by="customer_id")])
    async def bill(customer_id: int) -> None:
        await running.work(str(customer_id))

    await queue.enqueue_many([bill.spec(n % 5) for n in range(40)])
    async with queue.worker(concurrency=20):
        await until_counted(queue, completed=40)
        found = await queue.limits.list()
    assert [(each.kind, each.name, each.limit, each.pinned) for each in found] == [
        ("type", "bill", Limit(concurrency=3), False),
        ("key", "bill", Limit(concurrency=1), False),
    ]
    assert running.most["all"] == 3
    assert {running.most[str(n)] for n in range(5)} == {1}


async def test_what_is_held_back_does_not_hold_up_others(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=2)
    gate = asyncio.Event()

    @queue.job(limits=Limit(concurrency=1))
    async def slow() -> None:
        await gate.wait()

    @queue.job()
    async def quick() -> str:
        return "done"

    held = [await slow.enqueue() for _ in range(4)]
    async with queue.worker():
        assert await quick.call() == "done"

        async def is_held_back() -> bool:
            (limit,) = await queue.limits.list()
            return (limit.running, limit.held_back) == (1, 3)

        await wait_until(is_held_back)
        assert (await queue.counts())["queued"] == 3
        gate.set()
        for receipt in held:
            await receipt.result(wait=5)


async def test_job_types_share_a_limit_of_the_same_name(queue: Queue) -> None:
    running = Running()
    shared = Limit(concurrency=1, by="account", name="accounts")

    @queue.job(limits=shared)
    async def pull(account: str) -> None:
        await running.work(account)

    @queue.job(limits=[shared])
    async def push(account: str, text: str) -> None:
        await running.work(account)

    specs = [pull.spec("a"), push.spec("a", "x"), pull.spec("b"), push.spec("b", "y")] * 4
    await queue.enqueue_many(specs)
    await queue.enqueue("pull", {"account": "a"}, limit="accounts", key="a")
    async with queue.worker():
        await until_counted(queue, completed=17)
    assert (running.most["a"], running.most["b"]) == (1, 1)


async def test_a_limit_of_the_whole_queue(make_queue: MakeQueue) -> None:
    queue = make_queue(limits=Limit(concurrency=2))
    running = Running()

    @queue.handler("task")
    async def task(job: Job) -> None:
        await running.work(job.name)

    await queue.enqueue_many([JobSpec("task") for _ in range(20)])
    async with queue.worker():
        await until_counted(queue, completed=20)
        (limit,) = await queue.limits.list()
    assert (limit.kind, limit.name, limit.limit) == ("queue", "", Limit(concurrency=2))
    assert running.most["all"] == 2


async def test_a_rate_holds_starts_back(queue: Queue) -> None:
    await queue.limits.set(Limit(rate=Rate(3, per=3600)), job_type="mail")
    started: list[str] = []

    @queue.handler("mail")
    async def mail(job: Job) -> None:
        started.append(job.id)

    ids = [(await queue.enqueue("mail")).id for _ in range(5)]
    async with queue.worker():
        await until_counted(queue, completed=3, queued=2)
        assert started == ids[:3]
        (limit,) = await queue.limits.list()
        assert limit.limit.rate == Rate(3, per=3600.0)
        await queue.limits.remove(job_type="mail")
        await until_counted(queue, completed=5)
    assert started == ids
    assert await queue.limits.list() == []


async def test_a_limit_changes_while_jobs_run_and_wait(make_queue: MakeQueue) -> None:
    queue, operator = make_queue(concurrency=10), make_queue()
    gate = asyncio.Event()
    running = Running()

    @queue.job(limits=Limit(concurrency=1, by="customer"))
    async def bill(customer: str) -> None:
        await running.work(customer, gate.wait)

    await queue.enqueue_many([bill.spec("a") for _ in range(6)])
    async with queue.worker():
        await wait_until(lambda: running.now["a"] == 1)
        await operator.limits.set(Limit(concurrency=4), key="bill")
        await wait_until(lambda: running.now["a"] == 4)
        assert (await queue.counts())["queued"] == 2
        gate.set()
        await until_counted(queue, completed=6)


async def test_what_an_operator_sets_outlives_workers_until_it_is_removed(
    make_queue: MakeQueue,
) -> None:
    def declared(concurrency: int) -> Queue:
        queue = make_queue()

        @queue.job(limits=Limit(concurrency=concurrency))
        async def work() -> None: ...

        return queue

    async def holds(queue: Queue) -> tuple[int | None, bool]:
        async with queue.worker():
            (limit,) = await queue.limits.list()
            return limit.limit.concurrency, limit.pinned

    first, second = declared(5), declared(7)
    await first.enqueue("work")
    assert await first.limits.list() == []  # a producer puts nothing in force
    assert await holds(first) == (5, False)
    assert await holds(second) == (7, False)
    await second.limits.set(Limit(concurrency=2), job_type="work")
    assert await holds(first) == (2, True)
    await second.limits.remove(job_type="work")
    assert await second.limits.list() == []
    assert await holds(first) == (5, False)


async def test_a_group_takes_its_turn(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    order: list[str] = []

    @queue.job(group_by="tenant")
    async def work(tenant: str) -> None:
        order.append(tenant)

    await queue.enqueue_many([work.spec(tenant) for tenant in "aaaaabbc"])
    info = await (await work.options(group="d").enqueue("a")).info()
    assert info is not None
    assert info.group == "d"
    async with queue.worker():
        await until_counted(queue, completed=9)
    assert sorted(order[:4]) == ["a", "a", "b", "c"]
    assert order[-1] == "a"


async def test_keys_are_texts_that_people_know(queue: Queue) -> None:
    @queue.job(limits=Limit(concurrency=1, by="customer", name="customers"))
    async def bill(customer: Any = None) -> None: ...

    async def key_of(*args: Any) -> str | None:
        info = await (await bill.enqueue(*args)).info()
        assert info is not None
        assert info.limit == "customers"
        return info.limit_key

    assert await key_of(17) == await key_of("17") == "17"
    assert await key_of() == await key_of(None) != await key_of("")
    assert await key_of({"a": 1, "b": 2}) == await key_of({"b": 2, "a": 1})
    info = await (await bill.options(limit="others", key="x").enqueue(17)).info()
    assert info is not None
    assert (info.limit, info.limit_key) == ("others", "x")


async def test_bad_limits_are_refused(queue: Queue) -> None:
    limits = queue.limits
    some = Limit(concurrency=1)
    for call, error, message in (
        (lambda: limits.set(5), TypeError, "limit must be a Limit"),  # type: ignore[arg-type]
        (lambda: limits.set(some, job_type="a", key="b"), ValueError, "job_type or key"),
        (lambda: limits.set(Limit(concurrency=1, by="a")), ValueError, "by belongs to"),
        (lambda: limits.set(some, key=""), ValueError, "key must not be empty"),
        (lambda: limits.remove(job_type=5), TypeError, "job_type must be a string"),  # type: ignore[arg-type]
    ):
        with pytest.raises(error, match=message):
            await call()
    assert await limits.list() == []
    with pytest.raises(TypeError, match="limits are declared for a job type"):
        await queue.enqueue_many([JobSpec("a", None, JobOptions(limits=some))])
    with pytest.raises(ValueError, match="limit and key go together"):
        await queue.enqueue("a", limit="customers")
    assert sum((await queue.counts()).values()) == 0


async def test_two_job_types_cannot_declare_one_limit_differently(queue: Queue) -> None:
    @queue.job(limits=Limit(concurrency=1, by="a", name="shared"))
    async def one(a: int) -> None: ...

    async def two(a: int) -> None: ...

    with pytest.raises(ConfigurationError, match="'two' declares the limit 'shared'"):
        queue.job(limits=Limit(concurrency=2, by="a", name="shared"))(two)
    with pytest.raises(ConfigurationError, match="give it a name"):
        queue.handler(priority="high")(lambda job: None)
