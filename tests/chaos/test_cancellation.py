"""Every public coroutine, cancelled at each of its first ticks of the event loop.

Nothing is stranded two leases later, nobody gets another one's answer, and no connection, task or
thread is left. ``JOBQUEUE_CHAOS_TICKS=200`` takes every tick up to that number.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import pytest

from jobqueue import Consumer, Job, JobSpec, Queue, Reaper, Receipt, Worker
from jobqueue.events import EventStream
from jobqueue.jobtype import JobType
from jobqueue.options import QueueOptions
from jobqueue.producer import Producer
from jobqueue.storage.types import replies
from tests.integration.census import nothing_more_than, take
from tests.support.backends import Backend, MakeStorage, RedisBackend
from tests.support.jobs import QUEUE
from tests.support.listening import Inbox, listening_to_replies
from tests.support.wait import wait_until

LEASE: Final = 0.5
TICKS_VARIABLE: Final = "JOBQUEUE_CHAOS_TICKS"
_FEW: Final = (*range(8), 10, 13, 17, 22, 30, 42, 60, 85, 120)
TICKS: Final = tuple(range(int(os.environ.get(TICKS_VARIABLE, 0)))) or _FEW
HOUR: Final = 3600

_CLASSES: Final = (Queue, Producer, Receipt, JobType, EventStream, Worker, Consumer, Reaper)

Target: TypeAlias = Coroutine[Any, Any, Any]
CleanUp: TypeAlias = Callable[[], Awaitable[object]]


class Stage:
    """What the cases work with: a queue that works, and makers of others.

    Attributes:
        queue: Open, and served by a worker on another handle.
        echo: A job type of it.
        known: Jobs of it that have ended, by id, with their results.
        idle: Another queue, which nobody serves but those who are cancelled.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.queue = self.make("q")
        self.idle = self.make("idle")
        self.echo: JobType[[int], int] = self.queue.job("echo")(_echo)
        self.known: dict[str, int] = {}
        self.clean_ups: list[CleanUp] = []

    def make(self, name: str) -> Queue:
        """A queue on a handle of its own, which is the case's to close."""
        return Queue(name, self.backend.handle(), lease=LEASE, grace=0, max_attempts=1_000)

    def fresh(self, name: str = "idle") -> Queue:
        """A queue of one case, with a handler, closed after it."""
        queue = self.make(name)
        add_handlers(queue)
        self.clean_ups.append(queue.close)
        return queue

    async def worker(self) -> Worker:
        """A worker of one case that has not begun, and jobs for it."""
        await self.idle.enqueue_many([JobSpec("note", n) for n in range(3)])
        worker = self.fresh().worker()
        self.clean_ups.append(lambda: worker.__aexit__(None, None, None))
        return worker

    async def consumer(self) -> Consumer:
        """The same with a consumer alone."""
        await self.idle.enqueue_many([JobSpec("note", n) for n in range(3)])
        options = QueueOptions(lease=LEASE, grace=0)
        consumer = Consumer(self.backend.handle(), {"note": _note}, "idle", options=options)
        self.clean_ups.append(consumer.stop)
        return consumer

    def reaper(self) -> Reaper:
        """A reaper of one case that has not begun."""
        options = QueueOptions(lease=LEASE)
        reaper = Reaper(self.backend.handle(), "idle", options=options)
        self.clean_ups.append(reaper.stop)
        return reaper

    def ends_by_itself(self, tick: int) -> None:
        """What is cancelled is a close or a stop: once it has begun, nobody need do it again."""
        if tick:
            self.clean_ups.clear()

    async def clean_up(self) -> None:
        """End what a case has left open, as its caller would."""
        while self.clean_ups:
            await self.clean_ups.pop()()


async def _echo(n: int) -> int:
    return n


async def _note(job: Job) -> Any:
    await asyncio.sleep(0)
    return job.payload


def add_handlers(queue: Queue) -> None:
    queue.handler("note")(_note)


@asynccontextmanager
async def staged(backend: Backend) -> AsyncIterator[Stage]:
    """A stage; at its end nothing may be stranded, and nothing left."""
    before = take(backend)
    stage = Stage(backend)
    server = stage.make("q")
    server.job("echo")(_echo)
    async with stage.queue, stage.idle, server.worker():
        for n in range(3):
            receipt = await stage.echo.enqueue(n)
            stage.known[receipt.id] = await receipt.result(10)
        yield stage
        await nothing_waits(stage.queue)
        helper = stage.make("idle")
        add_handlers(helper)
        async with helper.worker():
            await nothing_waits(stage.idle)
    await server.close()
    await nothing_more_than(before, backend)


async def nothing_waits(queue: Queue) -> None:
    """All jobs end within two leases."""

    async def ended() -> bool:
        counts = await queue.counts()
        return not any(counts[state] for state in ("queued", "running", "retrying"))

    await wait_until(ended, 2 * LEASE + 1, "nothing is stranded")


# -- the cases: what is prepared, and the coroutine that is cancelled ------------------------------

Case: TypeAlias = Callable[[Stage, Any, int], Awaitable[Target]]
CASES: dict[str, Case] = {}


def cancels(*names: str) -> Callable[[Case], Case]:
    """The case of these coroutines. It gets the stage, the object (for the producing side) and a
    number, and gives the coroutine, which checks its answer."""

    def register(case: Case) -> Case:
        CASES.update(dict.fromkeys(names, case))
        return case

    return register


async def _equals(expected: Any, ask: Callable[..., Awaitable[Any]], *args: Any) -> None:
    assert await ask(*args) == expected


@cancels("Queue.open", "Producer.open", "Queue.__aenter__", "Producer.__aenter__")
async def _open(stage: Stage, queue: Any, n: int) -> Target:
    fresh = stage.fresh("q")
    if isinstance(queue, Producer):
        return fresh.producer.open()
    return fresh.open()


@cancels("Queue.close", "Producer.close", "Queue.__aexit__", "Producer.__aexit__")
async def _close(stage: Stage, queue: Any, n: int) -> Target:
    fresh = stage.fresh("q")
    echo = fresh.job("echo")(_echo)
    await fresh.enqueue("echo", {"n": n})
    stage.ends_by_itself(n)
    if isinstance(queue, Producer):
        return fresh.producer.close()
    if stage.backend.shared_between_processes:
        # From another thread, so that there is more to close.
        thread = threading.Thread(target=echo.enqueue_sync, args=(n,))
        thread.start()
        await wait_until(lambda: not thread.is_alive())
    return fresh.close()


@cancels("Queue.enqueue", "Producer.enqueue")
async def _enqueue(stage: Stage, queue: Any, n: int) -> Target:
    async def enqueue() -> None:
        receipt = await queue.enqueue("echo", {"n": n})
        assert await receipt.result(10) == n

    return enqueue()


@cancels("Producer.enqueue_spec")
async def _enqueue_spec(stage: Stage, queue: Any, n: int) -> Target:
    async def enqueue() -> None:
        receipt = await queue.enqueue_spec(stage.echo.spec(n))
        assert await receipt.result(10) == n

    return enqueue()


@cancels("Queue.enqueue_many", "Producer.enqueue_many")
async def _enqueue_many(stage: Stage, queue: Any, n: int) -> Target:
    async def enqueue() -> None:
        receipts = await queue.enqueue_many([stage.echo.spec(n + k) for k in range(3)])
        for k, receipt in enumerate(receipts):
            assert await receipt.result(10) == n + k

    return enqueue()


@cancels("Queue.enqueue_and_wait", "Producer.enqueue_and_wait")
async def _enqueue_and_wait(stage: Stage, queue: Any, n: int) -> Target:
    return _equals(n, queue.enqueue_and_wait, "echo", {"n": n})


@cancels("Producer.call_spec")
async def _call_spec(stage: Stage, queue: Any, n: int) -> Target:
    return _equals(n, queue.call_spec, stage.echo.spec(n))


@cancels("Queue.result", "Producer.result", "Receipt.result")
async def _result(stage: Stage, queue: Any, n: int) -> Target:
    receipt = await stage.echo.enqueue(n)
    if queue is None:
        return _equals(n, receipt.result, 10)
    return _equals(n, queue.result, receipt.id)


@cancels("Queue.get", "Producer.get", "Receipt.info")
async def _get(stage: Stage, queue: Any, n: int) -> Target:
    receipt = await stage.echo.enqueue(n)

    async def get() -> None:
        info = await (receipt.info() if queue is None else queue.get(receipt.id))
        assert info is not None
        assert (info.id, info.payload) == (receipt.id, {"n": n})

    return get()


@cancels("Queue.cancel", "Producer.cancel")
async def _cancel(stage: Stage, queue: Any, n: int) -> Target:
    receipt = await stage.queue.enqueue("echo", {"n": n}, delay=HOUR)
    stage.clean_ups.append(lambda: stage.queue.cancel(receipt.id))
    return _equals("cancelled", queue.cancel, receipt.id)


@cancels("Queue.set_result_ttl", "Producer.set_result_ttl")
async def _set_result_ttl(stage: Stage, queue: Any, n: int) -> Target:
    if n % 2:
        return _equals("not_found", queue.set_result_ttl, "nobody", HOUR)
    return _equals("updated", queue.set_result_ttl, next(iter(stage.known)), HOUR)


@cancels("Queue.counts", "Producer.counts")
async def _counts(stage: Stage, queue: Any, n: int) -> Target:
    async def count() -> None:
        assert (await queue.counts())["completed"] >= len(stage.known)

    return count()


@cancels("Producer.enqueue_job")
async def _enqueue_job(stage: Stage, queue: Any, n: int) -> Target:
    async def enqueue() -> None:
        receipt = await queue.enqueue_job(queue.intake.new_job(stage.echo.spec(n)))
        assert await receipt.result(10) == n

    return enqueue()


@cancels("Producer.open_storage")
async def _open_storage(stage: Stage, queue: Any, n: int) -> Target:
    return stage.fresh("q").producer.open_storage()


@cancels("Queue.reschedule")
async def _reschedule(stage: Stage, queue: Any, n: int) -> Target:
    receipt = await stage.queue.enqueue("echo", {"n": n}, delay=HOUR)
    stage.clean_ups.append(lambda: stage.queue.cancel(receipt.id))
    return _equals("updated", queue.reschedule, receipt.id, 2 * HOUR)


@cancels("Queue.run_now")
async def _run_now(stage: Stage, queue: Any, n: int) -> Target:
    receipt = await stage.queue.enqueue("echo", {"n": n}, delay=HOUR)
    stage.clean_ups.append(lambda: stage.queue.run_now(receipt.id))
    return _equals("updated", queue.run_now, receipt.id)


@cancels("Queue.scheduled", "Queue.control")
async def _look_at_the_queue(stage: Stage, queue: Any, n: int) -> Target:
    async def look() -> None:
        assert await queue.scheduled() == []
        assert not (await queue.control()).paused

    return look()


@cancels(
    *("Queue.pause", "Queue.resume", "Queue.drain", "Queue.set_max_length", "Queue.set_low_share"),
    *("Queue.clear", "Queue.obliterate"),
)
async def _control(stage: Stage, queue: Any, n: int) -> Target:
    aside = stage.fresh("aside")

    async def forget() -> None:
        await aside.obliterate(confirm="aside")

    async def change() -> None:
        await aside.pause()
        await aside.set_low_share(0.5)
        await aside.set_max_length(1)
        await aside.enqueue("note", n)
        assert await aside.clear() == 1
        await aside.resume()
        await aside.drain(10)
        await forget()

    stage.clean_ups.append(forget)
    return change()


@cancels("JobType.enqueue")
async def _type_enqueue(stage: Stage, queue: Any, n: int) -> Target:
    async def enqueue() -> None:
        assert await (await stage.echo.enqueue(n)).result(10) == n

    return enqueue()


@cancels("JobType.call")
async def _type_call(stage: Stage, queue: Any, n: int) -> Target:
    return _equals(n, stage.echo.call, n)


@cancels("EventStream.__aenter__", "EventStream.__anext__")
async def _events(stage: Stage, queue: Any, n: int) -> Target:
    async def hear() -> None:
        async with stage.queue.events() as events:
            receipt = await stage.echo.enqueue(n)
            async for event in events:
                if event.id == receipt.id:
                    break

    return hear()


@cancels("EventStream.aclose", "EventStream.__aexit__")
async def _close_events(stage: Stage, queue: Any, n: int) -> Target:
    events = stage.queue.events()
    await events.__aenter__()
    stage.clean_ups.append(events.aclose)
    stage.ends_by_itself(n)
    return events.aclose()


@cancels(
    *("Worker.__aenter__", "Worker.start", "Worker.start_when_available", "Worker.run", "Queue.run")
)
async def _work(stage: Stage, queue: Any, n: int) -> Target:
    return (await stage.worker()).run()


@cancels("Worker.run_until_empty", "Worker.wait_until_empty")
async def _run_until_empty(stage: Stage, queue: Any, n: int) -> Target:
    return (await stage.worker()).run_until_empty()


@cancels("Worker.__aexit__", "Worker.stop")
async def _stop_working(stage: Stage, queue: Any, n: int) -> Target:
    worker = await stage.worker()
    await worker.__aenter__()
    stage.ends_by_itself(n)
    return worker.__aexit__(None, None, None)


@cancels("Consumer.start", "Consumer.__aenter__")
async def _start_consumer(stage: Stage, queue: Any, n: int) -> Target:
    return (await stage.consumer()).start()


@cancels("Consumer.stop", "Consumer.__aexit__")
async def _stop_consumer(stage: Stage, queue: Any, n: int) -> Target:
    consumer = await stage.consumer()
    await consumer.start()
    stage.ends_by_itself(n)
    return consumer.stop()


@cancels("Reaper.start", "Reaper.__aenter__")
async def _start_reaper(stage: Stage, queue: Any, n: int) -> Target:
    return stage.reaper().start()


@cancels("Reaper.stop", "Reaper.__aexit__")
async def _stop_reaper(stage: Stage, queue: Any, n: int) -> Target:
    reaper = stage.reaper()
    await reaper.start()
    stage.ends_by_itself(n)
    return reaper.stop()


@cancels("Reaper.run_once")
async def _reap(stage: Stage, queue: Any, n: int) -> Target:
    reaper = stage.reaper()
    await reaper.start()
    return reaper.run_once()


# -- what is done with them ------------------------------------------------------------------------


def _public_coroutines() -> set[str]:
    return {
        f"{each.__name__}.{name}"
        for each in _CLASSES
        for name, member in vars(each).items()
        if inspect.iscoroutinefunction(member) and (name[0] != "_" or name.endswith("__"))
    }


def test_every_public_coroutine_has_a_case() -> None:
    assert set(CASES) == _public_coroutines()


def _cases_of(kind: type) -> list[tuple[str, Case]]:
    """The different cases of one class; two names of one thing are cancelled once."""
    found: dict[Case, str] = {}
    for name, case in CASES.items():
        if name.startswith(f"{kind.__name__}."):
            found.setdefault(case, name)
    return [(name, case) for case, name in found.items()]


@pytest.mark.parametrize("kind", _CLASSES, ids=lambda kind: kind.__name__)
async def test_cancelled_at_every_tick(backend: Backend, kind: type) -> None:
    async with staged(backend) as stage:
        about = {Queue: stage.queue, Producer: stage.queue.producer}.get(kind)
        for name, case in _cases_of(kind):
            for tick in TICKS:
                try:
                    async with asyncio.timeout(20):
                        await _cancel_at(stage, case, about, tick)
                except BaseException as error:
                    error.add_note(f"{name}, cancelled at tick {tick}")
                    raise


async def _cancel_at(stage: Stage, case: Case, about: Any, tick: int) -> None:
    target = await case(stage, about, tick)
    neighbours = [asyncio.create_task(_ask(stage, -1 - 2 * tick))]
    task = asyncio.create_task(target)
    neighbours.append(asyncio.create_task(_ask(stage, -2 - 2 * tick)))
    for _ in range(tick):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    await asyncio.gather(*neighbours)
    await stage.clean_up()


async def _ask(stage: Stage, n: int) -> None:
    """A neighbour of the one that is cancelled: shares its connection, and gets its own answers."""
    called, *others = await asyncio.gather(
        stage.queue.enqueue_and_wait("echo", {"n": n}, wait=10),
        *(stage.queue.result(id, wait=10) for id in stage.known),
        *(stage.queue.get(id) for id in stage.known),
    )
    assert called == n
    results, infos = others[: len(stage.known)], others[len(stage.known) :]
    assert results == list(stage.known.values())
    assert [info.id for info in infos] == list(stage.known)


# -- a worker stopped at every tick of a claim -----------------------------------------------------


@pytest.mark.storages("redis")
async def test_a_stop_at_any_tick_of_a_claim_leaves_nothing_in_an_inbox(
    backend: RedisBackend,
) -> None:
    async with staged(backend) as stage:
        for tick in TICKS:
            consumer = await _waiting_consumer(stage)
            coming = asyncio.create_task(stage.idle.enqueue("note", tick))
            for _ in range(tick):
                await asyncio.sleep(0)
            await consumer.stop()
            receipt = await coming
            assert backend.admin.keys("*inbox*") == [], f"stopped at tick {tick}"
            info = await receipt.info()
            assert info is not None
            assert (info.state, info.attempt) in {("queued", 0), ("completed", 1)}
            await stage.idle.cancel(receipt.id)
            await stage.clean_up()


async def _waiting_consumer(stage: Stage) -> Consumer:
    consumer = await stage.consumer()
    await consumer.start()
    await nothing_waits(stage.idle)

    def waits() -> bool:
        assert isinstance(stage.backend, RedisBackend)
        # The stage's own worker waits too.
        return stage.backend.admin.info("clients")["blocked_clients"] == 2

    await wait_until(waits, what="the claim waits")
    return consumer


# -- subscriptions, which share a connection -------------------------------------------------------


@pytest.mark.parametrize("gap", range(4))
async def test_a_subscription_that_is_cancelled_takes_nothing_from_the_next(
    make_storage: MakeStorage, gap: int
) -> None:
    for tick in TICKS:
        storage = await make_storage()
        first = asyncio.create_task(storage.listen(QUEUE, replies("first"), Inbox()))
        for _ in range(tick):
            await asyncio.sleep(0)
        first.cancel()
        for _ in range(gap):
            await asyncio.sleep(0)
        async with asyncio.timeout(5), listening_to_replies(storage, "next") as inbox:
            assert await inbox.all() == [], f"cancelled at tick {tick}"
        await asyncio.wait([first])
        await storage.close()
