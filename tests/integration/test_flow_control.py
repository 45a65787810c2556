"""What holds for a whole queue: pause, drain, a maximum length, clear, obliterate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobqueue import (
    ConfigurationError,
    DrainTimeout,
    Job,
    JobCancelled,
    JobSpec,
    Limit,
    NotAccepted,
    Queue,
    QueueControl,
    QueueDraining,
    QueueFull,
)
from jobqueue.options import JobOptions
from jobqueue.storage.types import ClaimRequest
from tests.integration.asking import counted, until_counted, until_state
from tests.integration.programs import MakeQueue

QUEUED, LATER = JobSpec("task"), JobSpec("task", None, JobOptions(delay=600))


def _gated(queue: Queue) -> asyncio.Event:
    gate = asyncio.Event()

    @queue.handler("task")
    async def task(job: Job) -> Any:
        await gate.wait()
        return job.payload

    return gate


async def test_a_paused_queue_starts_nothing_until_it_is_resumed(make_queue: MakeQueue) -> None:
    queue, operator = make_queue(), make_queue()
    _gated(queue).set()
    assert await operator.control() == QueueControl()
    await operator.pause()
    async with queue.worker():
        receipt = await queue.enqueue("task", 1)
        assert (await queue.control()).paused
        assert await counted(queue) == {"queued": 1}
        await operator.resume()
        assert await receipt.result(wait=5) == 1
    assert await queue.control() == QueueControl()


async def test_a_pause_holds_at_once_for_a_worker_that_waits_for_work(
    make_queue: MakeQueue,
) -> None:
    queue, operator = make_queue(), make_queue()
    _gated(queue).set()
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", 1) == 1
        await operator.pause()
        await operator.enqueue("task", 2, id="two")
        await asyncio.sleep(0.2)
        assert (await counted(queue))["queued"] == 1
        await operator.resume()
        assert await operator.result("two", wait=5) == 2


async def test_a_draining_queue_finishes_what_is_there(queue: Queue) -> None:
    gate = _gated(queue)
    first = await queue.enqueue("task", 1, id="first")
    async with queue.worker():
        await queue.drain()
        for refused in (
            queue.enqueue("task"),
            queue.enqueue_and_wait("task"),
            queue.enqueue_many([QUEUED]),
        ):
            with pytest.raises(QueueDraining, match="'q' is draining"):
                await refused
        again = await queue.enqueue("task", id="first")
        assert again.status == "duplicate"
        await until_state(queue, "first", "running")
        with pytest.raises(DrainTimeout, match="still holds 1 jobs") as caught:
            await queue.drain(wait=0.05)
        assert (caught.value.remaining, caught.value.paused) == (1, False)
        drained = asyncio.create_task(queue.drain(wait=30))
        gate.set()
        await asyncio.wait_for(drained, 10)
        assert await first.result() == 1
        assert await counted(queue) == {"completed": 1}
        await queue.resume()
        assert await queue.enqueue_and_wait("task", 2) == 2


async def test_a_drain_of_a_paused_queue_says_why_it_takes_so_long(queue: Queue) -> None:
    await queue.enqueue("task")
    await queue.pause()
    with pytest.raises(DrainTimeout, match="it is paused too"):
        await queue.drain(wait=0.05)
    with pytest.raises(ValueError, match="wait must be more than 0"):
        await queue.drain(wait=0)


async def test_a_full_queue_says_when_to_come_back(queue: Queue) -> None:
    await queue.set_max_length(3)
    assert (await queue.control()).max_length == 3
    await queue.enqueue_many([QUEUED, LATER])
    known = await queue.enqueue("task", id="known", unique=True)
    for refused in (queue.enqueue("task"), queue.enqueue("task", delay=600)):
        with pytest.raises(QueueFull, match="limit of 3 waiting jobs; try again in") as caught:
            await refused
        assert (caught.value.queue, caught.value.limit) == ("q", 3)
        assert 0.5 <= caught.value.retry_after <= 1.5
    assert (await queue.enqueue("task", id="known")).status == "duplicate"
    assert (await queue.enqueue("task", unique=True)).id == known.id
    await queue.set_max_length(None)
    assert (await queue.enqueue("task")).status == "queued"


async def test_a_batch_that_does_not_fit_says_what_was_stored(queue: Queue) -> None:
    told: list[str] = []
    queue.on("enqueued")(lambda event: told.append(event.id))
    await queue.set_max_length(2)
    specs = [JobSpec("task", n, JobOptions(id=f"id {n}")) for n in range(4)]
    with pytest.raises(NotAccepted) as caught:
        await queue.enqueue_many([*specs, specs[0]])
    receipts = caught.value.receipts
    assert [each and (each.id, each.status) for each in receipts] == [
        ("id 0", "queued"),
        ("id 1", "queued"),
        None,
        None,
        ("id 0", "duplicate"),
    ]
    assert await counted(queue) == {"queued": 2}
    assert told == ["id 0", "id 1"]


async def test_a_refused_call_leaves_nothing_behind(queue: Queue) -> None:
    _gated(queue).set()
    await queue.set_max_length(1)
    await queue.enqueue("task")
    with pytest.raises(QueueFull):
        await queue.enqueue_and_wait("task", drop_abandoned=True)
    await queue.set_max_length(None)
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", 2) == 2


async def test_clear_cancels_what_waits_and_nothing_else(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    gate = _gated(queue)
    async with queue.worker():
        await queue.enqueue("task", "runs", id="runs")
        await until_state(queue, "runs", "running")
        await queue.enqueue_many([QUEUED] * 490 + [LATER] * 20)
        waiting = asyncio.create_task(queue.enqueue_and_wait("task", priority="low"))
        await until_counted(queue, running=1, queued=491, scheduled=20)
        steps: list[int] = []
        assert await queue.clear(progress=steps.append) == 511
        assert steps == sorted(steps)
        assert steps[-1] == 511
        with pytest.raises(JobCancelled, match="cleared"):
            await waiting
        assert await counted(queue) == {"running": 1, "cancelled": 511}
        gate.set()
        assert await queue.result("runs", wait=5) == "runs"
        assert await queue.clear() == 0


async def test_obliterate_wants_the_queues_name(queue: Queue) -> None:
    await queue.enqueue("task")
    for wrong in ("", "Q", True, None):
        with pytest.raises(ValueError, match="pass confirm='q'"):
            await queue.obliterate(wrong)  # type: ignore[arg-type]
    assert await counted(queue) == {"queued": 1}
    assert await queue.control() == QueueControl()


async def test_obliterate_does_not_take_running_jobs_unless_forced(queue: Queue) -> None:
    gate = _gated(queue)
    async with queue.worker():
        await queue.enqueue("task", id="one")
        await until_state(queue, "one", "running")
        await queue.set_max_length(50)
        with pytest.raises(ConfigurationError, match="1 job of queue 'q' still running"):
            await queue.obliterate("q")
        assert await queue.control() == QueueControl(max_length=50)
        assert await queue.obliterate("q", force=True) == 1
        assert await queue.get("one") is None
        gate.set()


async def test_a_refused_obliterate_disturbs_nobody(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.enqueue("task")
    storage, changed = queue.storage, list[Any]()
    control = storage.control

    async def claim() -> None:
        await storage.claim("q", ClaimRequest(worker="w", count=1, token="t", lease_ms=60_000))

    async def control_later(queue: str, changes: Any = None) -> Any:
        if changes:
            changed.append(changes)
            await claim()
        return await control(queue, changes)

    monkeypatch.setattr(storage, "control", control_later)
    with pytest.raises(ConfigurationError, match="1 job of queue"):
        await queue.obliterate("q")  # the job starts after the first look
    assert changed == [{"paused": 1, "draining": 1}, {"paused": 0, "draining": 0}]
    assert await queue.control() == QueueControl()
    changed.clear()
    with pytest.raises(ConfigurationError, match="1 job of queue"):
        await queue.obliterate("q")
    assert changed == []


async def test_an_obliterated_queue_is_as_new(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue("other")
    _gated(queue).set()
    await other.enqueue("task")
    async with queue.worker():
        await queue.enqueue_and_wait("task", id="done")
    await queue.enqueue_many([QUEUED] * 500 + [LATER] * 3)
    await queue.limits.set(Limit(concurrency=1))
    await queue.set_low_share(0.5)
    steps: list[int] = []
    assert await queue.obliterate("q", progress=steps.append) == 504
    assert steps[-1] == 504
    assert await counted(queue) == {}
    assert await queue.limits.list() == []
    assert await queue.control() == QueueControl()
    assert await queue.scheduled() == []
    assert await counted(other) == {"queued": 1}
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", 5, id="done") == 5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda queue: queue.set_max_length(0), ValueError, "max_length must be between 1"),
        (lambda queue: queue.set_max_length(1.5), TypeError, "max_length must be a whole"),
        (lambda queue: queue.set_low_share(0), ValueError, "low_share must be between"),
        (lambda queue: queue.set_low_share(0.6), ValueError, "low_share must be between"),
        (lambda queue: queue.set_low_share(float("nan")), ValueError, "low_share must be"),
        (lambda queue: queue.set_low_share("much"), TypeError, "low_share must be a number"),
    ],
)
async def test_bad_values_change_nothing(
    queue: Queue, call: Any, error: type[Exception], message: str
) -> None:
    await queue.set_max_length(7)
    with pytest.raises(error, match=message):
        await call(queue)
    assert await queue.control() == QueueControl(max_length=7)


async def test_a_worker_waits_on_while_its_queue_is_obliterated(queue: Queue) -> None:
    _gated(queue).set()
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", 1) == 1
        assert await queue.obliterate("q") == 1
        receipt = await queue.enqueue("task", 2)
        assert await receipt.result(wait=5) == 2
