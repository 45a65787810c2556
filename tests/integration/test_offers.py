"""Jobs that an idle consumer is handed, and that it offers no more than it can take.

Only a server hands over. What must hold whether or not it does runs on every storage.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest

from jobqueue import (
    Consumer,
    Fixed,
    Job,
    JobCancelled,
    JobFailed,
    JobSpec,
    Queue,
    Reaper,
    unanswered,
)
from jobqueue.ids import new_token
from jobqueue.storage.redis.links import Link
from jobqueue.storage.redis.resp import pack
from jobqueue.storage.redis.scripts import load
from jobqueue.storage.types import ClaimRequest, Offer, Settlement
from tests.integration.asking import counted, info_of, until_counted, until_state
from tests.integration.crew import Crew
from tests.integration.ledger import Ledger
from tests.integration.programs import MakeQueue, work
from tests.support.backends import Backend, RedisBackend
from tests.support.handing import note_handed
from tests.support.jobs import completed
from tests.support.servers import server
from tests.support.wait import wait_until

NEVER = 600.0
"""A lease that nobody waits for."""
SOON = 10.0
"""Seconds in which what waits for no lease is done, on a busy machine too."""
STOP_SLACK = 2.0
"""As in test_stop: one second is promised, and one is for a busy machine."""

needs_server = pytest.mark.storages("redis")


class Watched:
    """A consumer, and what it was handed.

    Attributes:
        queue: Its queue, with a handle of its own.
        heard: Ids of which a message told it.
        fetched: Ids that a withdrawal brought.
    """

    def __init__(self, queue: Queue, concurrency: int | None = None) -> None:
        self.queue = queue
        self.heard: list[str] = []
        self.fetched: list[str] = []
        note_handed(
            queue.storage,
            lambda claim: self.heard.append(claim.id),
            lambda claim: self.fetched.append(claim.id),
        )
        self.consumer = Consumer(
            queue.storage, queue.registry, "q", hooks=queue.hooks, concurrency=concurrency
        )


@pytest.fixture
def make_watched(make_queue: MakeQueue) -> Callable[..., Watched]:
    """Makes consumers on handles of their own, with a handler ``task`` that returns its attempt."""

    def make(
        task: Callable[[Job], Any] = lambda job: job.attempt,
        *,
        concurrency: int | None = None,
        **options: Any,
    ) -> Watched:
        queue = make_queue(**{"lease": NEVER, "grace": 5.0, **options})
        queue.handler("task")(task)
        return Watched(queue, concurrency)

    return make


@pytest.fixture
async def producer(make_queue: MakeQueue) -> AsyncIterator[Queue]:
    """A queue for enqueueing only."""
    async with make_queue() as queue:
        yield queue


async def made_idle(producer: Queue, id: str = "first") -> None:
    """Have one job run; who ran it has said that it is idle when this returns."""
    await producer.enqueue("task", id=id)
    await until_state(producer, id, "completed")


# -- that it happens -------------------------------------------------------------------------------


@needs_server
async def test_lone_jobs_one_after_the_other_cost_two_scripts_each(
    make_watched: Callable[..., Watched],
    producer: Queue,
    backend: RedisBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unanswered, "SURE_AFTER", NEVER)
    watched = make_watched()
    async with watched.consumer:
        assert await producer.enqueue_and_wait("task", wait=SOON) == 1

        async def twenty() -> dict[str, int]:
            backend.admin.config_resetstat()
            before = len(watched.heard)
            for _ in range(20):
                assert await producer.enqueue_and_wait("task", wait=SOON) == 1
            return {**_calls(backend), "handed": len(watched.heard) - before}

        # What goes on beside, such as a wait that ends, falls into one of these at most.
        seen = [await twenty() for _ in range(3)]
    assert {"evalsha": 40, "blmove": 0, "handed": 20} in seen, seen


def _calls(backend: RedisBackend) -> dict[str, int]:
    stats: dict[str, Any] = backend.admin.info("commandstats")
    names = ("evalsha", "blmove")
    return {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names}


async def test_a_lone_job_is_told_of_like_any_other(
    make_watched: Callable[..., Watched], producer: Queue, backend: Backend
) -> None:
    jobs: dict[str, Job] = {}
    told: list[tuple[str, str, int, str | None]] = []
    go_on = asyncio.Event()

    async def task(job: Job) -> str:
        jobs[job.id] = job
        if job.id == "one":
            await go_on.wait()
        return "done"

    watched = make_watched(task)
    for type in ("started", "completed"):
        watched.queue.on(type)(
            lambda event: told.append((str(event.type), event.id, event.attempt, event.worker))
        )
    async with watched.consumer:
        await made_idle(producer)
        began = datetime.now(UTC)
        receipt = await producer.enqueue("task", {"n": 1}, id="one", max_attempts=7)
        info = await until_state(producer, "one", "running")
        await wait_until(lambda: "one" in jobs)
        assert (info.attempt, info.worker) == (1, watched.consumer.worker_id)
        assert await counted(producer) == {"completed": 1, "running": 1}
        go_on.set()
        assert await receipt.result(SOON) == "done"
        await wait_until(lambda: len(told) == 4)
    job = jobs["one"]
    assert (job.payload, job.attempt, job.max_attempts, job.queue) == ({"n": 1}, 1, 7, "q")
    assert info.started_at is not None
    assert job.enqueued_at == info.enqueued_at <= info.started_at
    assert abs(job.enqueued_at - began) < timedelta(seconds=SOON)
    worker = watched.consumer.worker_id
    assert told[2:] == [("started", "one", 1, worker), ("completed", "one", 1, worker)]
    assert watched.heard == (["one"] if backend.kind == "redis" else [])


# -- what becomes of it while it runs --------------------------------------------------------------


@needs_server
async def test_its_lease_is_renewed(make_watched: Callable[..., Watched], producer: Queue) -> None:
    runs: list[int] = []

    async def task(job: Job) -> int:
        runs.append(job.attempt)
        await asyncio.sleep(1.2 if job.id == "long" else 0)
        return job.attempt

    watched = make_watched(task, lease=0.5)
    reaper = Reaper(watched.queue.storage, "q", registry=watched.queue.registry)
    async with watched.consumer, reaper:
        await made_idle(producer)
        receipt = await producer.enqueue("task", id="long")
        assert await receipt.result(SOON) == 1
    assert runs == [1, 1]
    assert watched.heard == ["long"]


@needs_server
async def test_it_is_cancelled(make_watched: Callable[..., Watched], producer: Queue) -> None:
    ends: list[str] = []

    async def task(job: Job) -> None:
        try:
            await asyncio.sleep(0 if job.id == "first" else 60)
        except asyncio.CancelledError:
            ends.append(job.id)
            raise

    watched = make_watched(task)
    async with watched.consumer:
        await made_idle(producer)
        receipt = await producer.enqueue("task", id="one")
        await until_state(producer, "one", "running")
        assert await producer.cancel("one") == "running"
        with pytest.raises(JobCancelled):
            await receipt.result(SOON)
    assert ends in (["one"], [])  # it may be cancelled before its handler has begun
    assert watched.heard == ["one"]


@needs_server
async def test_it_runs_out_of_its_time(
    make_watched: Callable[..., Watched], producer: Queue
) -> None:
    async def task(job: Job) -> None:
        await asyncio.sleep(0 if job.id == "first" else 60)

    watched = make_watched(task)
    async with watched.consumer:
        await made_idle(producer)
        receipt = await producer.enqueue("task", id="one", timeout=0.1, max_attempts=1)
        with pytest.raises(JobFailed) as caught:
            await receipt.result(SOON)
    assert (caught.value.error.reason, caught.value.error.attempts) == ("timeout", 1)
    assert watched.heard == ["one"]


@needs_server
async def test_it_is_tried_again(make_watched: Callable[..., Watched], producer: Queue) -> None:
    def task(job: Job) -> int:
        if job.id == "one" and job.attempt < 3:
            raise ValueError("not yet")
        return job.attempt

    watched = make_watched(task, retry=Fixed(0.01))
    async with watched.consumer:
        await made_idle(producer)
        assert await producer.enqueue_and_wait("task", id="one", wait=SOON) == 3
    assert watched.heard == ["one"]


# -- never more than there is room for -------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2, 3, 4, 10])
async def test_never_more_at_a_time_than_its_slots(
    make_watched: Callable[..., Watched], producer: Queue, backend: Backend, concurrency: int
) -> None:
    dice = random.Random(concurrency)
    running: set[str] = set()
    most = 0
    runs: Counter[str] = Counter()

    async def task(job: Job) -> None:
        nonlocal most
        running.add(job.id)
        most = max(most, len(running))
        runs[job.id] += 1
        await asyncio.sleep(dice.choice((0, 0, 0.001, 0.003)))
        running.discard(job.id)

    async def alone(count: int) -> None:
        for _ in range(count):
            await producer.enqueue("task")
            await asyncio.sleep(dice.choice((0, 0.002, 0.006)))

    async def together(count: int) -> None:
        while count > 0:
            size = dice.randint(1, 2 * concurrency)
            await producer.enqueue_many([JobSpec("task") for _ in range(size)])
            count -= size
            await asyncio.sleep(dice.choice((0.005, 0.02)))

    watched = make_watched(task, concurrency=concurrency)
    async with watched.consumer:
        await made_idle(producer)
        await asyncio.gather(alone(40), alone(40), together(60))
        await _until_all_ended(producer)
    assert most <= concurrency
    assert set(runs.values()) == {1}
    assert (len(watched.heard) > 0) == (backend.kind == "redis" and concurrency > 1)


async def _until_all_ended(queue: Queue) -> None:
    async def ended() -> bool:
        return not (await counted(queue)).keys() - {"completed"}

    await wait_until(ended, SOON)


async def test_one_that_is_busy_leaves_jobs_to_others(
    make_watched: Callable[..., Watched], producer: Queue
) -> None:
    held = asyncio.Event()
    ran: list[tuple[str, str]] = []

    async def hold(job: Job) -> None:
        ran.append(("busy", job.id))
        if job.payload == "hold":
            await held.wait()

    busy = make_watched(hold, concurrency=2)
    other = make_watched(lambda job: ran.append(("other", job.id)))
    async with busy.consumer:
        await made_idle(producer)
        for id in ("h1", "h2"):
            await producer.enqueue("task", "hold", id=id)
            await until_state(producer, id, "running")
        async with other.consumer:
            for n in range(5):
                await producer.enqueue_and_wait("task", id=f"{n}", wait=SOON)
            held.set()
    assert ran == [
        *(("busy", id) for id in ("first", "h1", "h2")),
        *(("other", f"{n}") for n in range(5)),
    ]
    assert set(busy.heard) <= {"h1"}


async def test_claims_that_fill_the_slots_end_the_offer(
    make_watched: Callable[..., Watched], producer: Queue
) -> None:
    held = asyncio.Event()

    async def hold(job: Job) -> None:
        if job.payload == "hold":
            await held.wait()

    watched = make_watched(hold, concurrency=2)
    async with watched.consumer:
        await made_idle(producer)
        await producer.enqueue_many([JobSpec("task", "hold")] * 2)
        await until_counted(producer, completed=1, running=2)
        await producer.enqueue("task", id="late")
        assert await counted(producer) == {"completed": 1, "queued": 1, "running": 2}
        assert watched.heard == []
        held.set()
        await until_counted(producer, completed=4)


@needs_server
async def test_one_without_a_free_slot_gives_a_job_back_at_once(
    make_watched: Callable[..., Watched], producer: Queue
) -> None:
    held = asyncio.Event()
    runs: list[tuple[str, int]] = []

    async def hold(job: Job) -> None:
        runs.append((job.id, job.attempt))
        if job.payload == "hold":
            await held.wait()

    watched = make_watched(hold, concurrency=1)
    worker = watched.consumer.worker_id
    storage = producer.storage
    async with watched.consumer:
        await producer.enqueue("task", "hold", id="hold")
        await until_state(producer, "hold", "running")
        # In its name, an offer that it does not make itself.
        await producer.enqueue("task", id="another")
        request = ClaimRequest(worker=worker, count=1, token=new_token(), lease_ms=60_000)
        (claim,) = await storage.claim("q", request)
        settlement = Settlement(claim.id, claim.fence, completed())
        assert await storage.finish("q", worker, [settlement], Offer(60_000, 60_000)) == [True]
        await producer.enqueue("task", id="one")
        info = await until_state(producer, "one", "queued")
        assert (watched.heard, info.attempt, info.error) == (["one"], 0, None)
        await producer.enqueue("task", id="two")
        held.set()
        await until_counted(producer, completed=4)
    assert runs == [("hold", 1), ("one", 1), ("two", 1)]


# -- stops -----------------------------------------------------------------------------------------


async def test_stops_while_lone_jobs_come(
    make_watched: Callable[..., Watched], producer: Queue, backend: Backend
) -> None:
    dice = random.Random(5)
    runs: Counter[tuple[str, int]] = Counter()
    is_over = False

    async def task(job: Job) -> None:
        runs[job.id, job.attempt] += 1
        await asyncio.sleep(dice.choice((0, 0.001)))

    async def enqueue_alone() -> int:
        count = 0
        while not is_over:
            await producer.enqueue("task", id=f"{count}")
            count += 1
            await asyncio.sleep(dice.choice((0, 0.001, 0.004)))
        return count

    leaving, staying = make_watched(task), make_watched(task)
    async with staying.consumer:
        enqueueing = asyncio.create_task(enqueue_alone())
        for _ in range(20):
            async with leaving.consumer:
                await asyncio.sleep(dice.uniform(0, 0.04))
                began = time.monotonic()
            assert time.monotonic() - began <= 5 + STOP_SLACK
        is_over = True
        count = await enqueueing
        await until_counted(producer, SOON, completed=count)
    # Nothing was begun twice, and what came too late was not charged.
    assert runs == {(f"{n}", 1): 1 for n in range(count)}
    assert (len(leaving.heard) > 0) == (len(staying.heard) > 0) == (backend.kind == "redis")


@needs_server
async def test_a_stop_when_the_server_does_not_answer(
    make_watched: Callable[..., Watched], producer: Queue, backend: RedisBackend
) -> None:
    pid = int(backend.admin.info("server")["process_id"])
    watched = make_watched()
    await watched.consumer.start()
    await made_idle(producer)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        await watched.consumer.stop(0.2)
        took = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    assert took <= 0.2 + STOP_SLACK


async def test_a_stop_when_the_server_is_gone() -> None:
    with server() as url:
        queue = Queue("q", url, lease=NEVER)
        queue.handler("task")(lambda job: job.attempt)
        consumer = Consumer(queue.storage, queue.registry, "q")
        await queue.open()
        await consumer.start()
        await made_idle(queue)
    began = time.monotonic()
    await consumer.stop(0.2)
    assert time.monotonic() - began <= 0.2 + STOP_SLACK
    await queue.close()


# -- workers that die ------------------------------------------------------------------------------


@needs_server
async def test_after_the_death_of_the_one_that_offered_another_runs_the_next_job(
    crew: Crew, make_watched: Callable[..., Watched], producer: Queue, ledger: Ledger
) -> None:
    idle = await crew.hire_process(work, str(ledger.path), {"lease": NEVER})
    for n in range(2):
        assert await producer.enqueue_and_wait("note", n, wait=SOON) == n
    staying = make_watched()
    staying.queue.handler("note")(lambda job: "elsewhere")
    async with staying.consumer:
        assert await producer.enqueue_and_wait("note", "still there", wait=SOON) == "still there"
        idle.kill()
        await asyncio.to_thread(idle.process.wait)
        for _ in range(3):
            assert await producer.enqueue_and_wait("note", wait=SOON) == "elsewhere"
    assert len(staying.heard) == 2


@needs_server
async def test_what_a_killed_worker_was_handed_is_recovered(
    crew: Crew, make_queue: MakeQueue, ledger: Ledger
) -> None:
    lease = 1.0
    queue = make_queue()
    first = await crew.hire_process(work, str(ledger.path), {"lease": lease})
    await queue.enqueue_and_wait("note", wait=SOON)
    receipt = await queue.enqueue("hang_at_first", id="one")
    # Already when it is stored: it was handed over.
    assert (await info_of(queue, "one")).state == "running"
    await wait_until(lambda: len(ledger.read("run")) == 2)
    second = await crew.hire_process(work, str(ledger.path), {"lease": lease})
    first.kill()
    assert await receipt.result(lease + SOON) == second.process.pid
    assert [run.attempt for run in ledger.read("run")] == [1, 1, 2]


@needs_server
async def test_a_message_that_comes_after_the_job_was_claimed_anew_stops_nothing(
    make_watched: Callable[..., Watched], producer: Queue, backend: RedisBackend
) -> None:
    go_on = asyncio.Event()
    runs: list[int] = []

    async def task(job: Job) -> int:
        runs.append(job.attempt)
        await go_on.wait()
        return job.attempt

    watched = make_watched(task)
    async with watched.consumer:
        receipt = await producer.enqueue("task", id="one")
        await wait_until(lambda: runs)
        (stored,) = await producer.storage.get("q", ["one"])
        assert stored is not None
        stale = ["one", "task", stored.spec, 1, 1, stored.enqueued_ms, 0]
        channel = f"jq:{{q}}:handed:{watched.consumer.worker_id}"
        assert backend.admin.spublish(channel, msgpack.packb(stale)) == 1
        await wait_until(lambda: watched.heard == ["one"])
        go_on.set()
        assert await receipt.result(SOON) == 1
    assert runs == [1]


# -- messages that are lost ------------------------------------------------------------------------


def lose_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, nobody hears what an enqueue publishes: the connections are closed before."""
    execute = Link.execute

    async def and_kill(self: Link, data: bytes, count: int, seconds: float) -> list[Any]:
        if load("enqueue").sha.encode() not in data:
            return await execute(self, data, count, seconds)
        # In one write with the script: what that has published has not been sent yet.
        killing = pack(("CLIENT", "KILL", "TYPE", "pubsub"))
        return (await execute(self, data + killing, count + 1, seconds))[:-1]

    monkeypatch.setattr(Link, "execute", and_kill)


@needs_server
async def test_a_job_whose_message_is_lost_runs_when_the_connection_is_back(
    make_watched: Callable[..., Watched],
    producer: Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = make_watched()
    async with watched.consumer:
        await made_idle(producer)
        lose_messages(monkeypatch)
        for n in range(10):
            await made_idle(producer, f"{n}")
    assert watched.heard == []
    assert len(watched.fetched) >= 5  # the others came before the connection was back


@needs_server
async def test_a_job_of_which_a_consumer_has_not_heard_when_it_stops_runs_elsewhere(
    make_watched: Callable[..., Watched],
    producer: Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaving, staying = make_watched(lambda job: "leaving"), make_watched(lambda job: job.attempt)
    async with leaving.consumer:
        await made_idle(producer)
        with monkeypatch.context() as patching:
            lose_messages(patching)
            receipt = await producer.enqueue("task", id="one")
        # At once: the connection is not back yet.
    assert (leaving.heard, leaving.fetched) == ([], ["one"])
    async with staying.consumer:
        assert await receipt.result(SOON) == 1


@needs_server
async def test_connections_that_are_killed_all_the_time(
    make_watched: Callable[..., Watched], producer: Queue, backend: RedisBackend
) -> None:
    runs: Counter[str] = Counter()
    watched = make_watched(lambda job: runs.update([job.id]))
    is_over = threading.Event()

    def kill() -> int:
        killed = 0
        while not is_over.wait(0.015):
            killed += backend.admin.client_kill_filter(_type="pubsub")
        return killed

    async with watched.consumer:
        killing = asyncio.create_task(asyncio.to_thread(kill))
        for n in range(60):
            await made_idle(producer, f"{n}")
        is_over.set()
        assert await killing > 3
    assert runs == {f"{n}": 1 for n in range(60)}
    assert watched.heard
