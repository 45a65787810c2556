"""When a job may start: priority, expiry, another due time; and callers that have gone."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobqueue import Job, JobCancelled, JobExpired, JobInfo, JobSpec, Queue, Snooze, WaitTimeout
from jobqueue.options import JobOptions
from tests.integration.asking import counted, info_of, until_counted, until_state
from tests.integration.programs import MakeQueue
from tests.support.wait import wait_until


def _record(queue: Queue) -> list[Any]:
    seen: list[Any] = []

    @queue.handler("task")
    async def task(job: Job) -> Any:
        seen.append(job.payload)
        return job.payload

    return seen


async def test_higher_levels_start_first(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    seen = _record(queue)

    @queue.job(priority="low")
    async def sweep(n: int) -> None:
        seen.append(f"sweep {n}")

    await sweep.enqueue(1)
    await sweep.options(priority="normal").enqueue(2)
    for n, priority in enumerate(["low", "normal", "high", "low", "normal", "high"]):
        await queue.enqueue("task", f"{priority} {n}", priority=priority)  # type: ignore[arg-type]
    await queue.enqueue("task", "plain")
    assert [(await info_of(queue, r.id)).priority for r in [await sweep.enqueue(3)]] == ["low"]
    async with queue.worker():
        await until_counted(queue, completed=10)
    assert seen == [
        *("high 2", "high 5", "sweep 2", "normal 1", "normal 4", "plain"),
        *("sweep 1", "low 0", "low 3", "sweep 3"),
    ]


async def test_low_jobs_get_their_share(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    seen = _record(queue)
    await queue.set_low_share(0.25)
    assert (await queue.control()).low_share == 0.25
    high = [JobSpec("task", "high", JobOptions(priority="high")) for _ in range(30)]
    low = [JobSpec("task", "low", JobOptions(priority="low")) for _ in range(5)]
    await queue.enqueue_many(high + low)
    async with queue.worker():
        await until_counted(queue, completed=35)
    assert all("low" in seen[start : start + 4] for start in range(0, 20, 4))


async def test_a_job_that_did_not_start_in_time_is_never_run(queue: Queue) -> None:
    seen = _record(queue)
    receipt = await queue.enqueue("task", 1, expires=0.05)
    info = await info_of(queue, receipt.id)
    assert info.start_by is not None
    assert info.start_by - info.enqueued_at == timedelta(milliseconds=50)
    await asyncio.sleep(0.06)
    async with queue.events() as events, queue.worker():
        with pytest.raises(JobExpired, match="expired before it was started"):
            await receipt.result(wait=5)
        event = await asyncio.wait_for(anext(events), 5)
        assert (event.type, event.id) == ("cancelled", receipt.id)
    assert seen == []
    info = await info_of(queue, receipt.id)
    assert info.state == "cancelled"
    assert info.error is not None
    assert info.error.reason == "expired"


async def test_waiters_hear_that_a_job_expired(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1)
    gate = asyncio.Event()

    @queue.job(expires=0.1)
    async def work(wait: bool) -> str:
        if wait:
            await gate.wait()
        return "done"

    async with queue.worker():
        first = await work.options(expires=None).enqueue(True)
        await until_state(queue, first.id, "running")
        started = time.monotonic()
        with pytest.raises(JobExpired):
            await work.call(False)
        assert time.monotonic() - started < 5
        gate.set()
        assert await first.result(wait=5) == "done"
        assert await work.options(expires=60).call(False) == "done"


async def test_a_job_that_started_in_time_runs_on_and_is_retried(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=lambda attempt, error: 0.01)

    @queue.job(expires=1.5)
    async def work() -> str:
        return Snooze(1.5) if not done.is_set() and not done.set() else "late"  # type: ignore[return-value]

    done = asyncio.Event()
    async with queue.worker():
        assert await work.options(wait=10).call() == "late"


async def test_a_job_that_may_expire_is_kept_as_long_as_others(make_queue: MakeQueue) -> None:
    queue = make_queue(result_ttl=600)
    await queue.enqueue("task", expires=60, id="one")
    await queue.enqueue("task", expires=60, result_ttl=5, id="two")
    await queue.enqueue("task", id="three")
    stored = await queue.storage.get("q", ["one", "two", "three"])
    assert [job and job.ttl_ms for job in stored] == [600_000, 5_000, 0]


async def test_what_could_never_start_is_refused(queue: Queue) -> None:
    @queue.job(expires=10)
    async def work() -> None: ...

    late = datetime.now(UTC) + timedelta(seconds=60)
    with pytest.raises(ValueError, match="must be longer than delay"):
        await queue.enqueue("task", expires=5, delay=5)
    with pytest.raises(ValueError, match="must be longer than delay"):
        await work.options(delay=20).enqueue()
    with pytest.raises(ValueError, match="could never start"):
        await work.options(run_at=late).enqueue()
    with pytest.raises(ValueError, match=r"Debounce\(max_wait=...\)"):
        await queue.enqueue("task", expires=5, debounce=1)
    with pytest.raises(ValueError, match="could never start"):
        await work.options(drop_abandoned=True, wait=1, delay=2).call()
    assert await counted(queue) == {}
    assert (await work.options(delay=9).enqueue()).state == "scheduled"


# -- callers that have gone ------------------------------------------------------------------------


async def test_a_job_whose_caller_was_cancelled_is_dropped(queue: Queue) -> None:
    call = asyncio.create_task(
        queue.enqueue_and_wait("task", 1, drop_abandoned=True, id="one", wait=600)
    )
    await until_counted(queue, queued=1)
    info = await info_of(queue, "one")
    assert info.start_by is not None
    assert info.start_by - info.enqueued_at == timedelta(seconds=600)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    info = await until_state(queue, "one", "cancelled")
    assert info.error is not None
    assert info.error.message == "its caller stopped waiting"
    with pytest.raises(JobCancelled):
        await queue.result("one")


async def test_a_job_whose_caller_waited_in_vain_is_never_run(queue: Queue) -> None:
    seen = _record(queue)
    with pytest.raises((JobExpired, JobCancelled, WaitTimeout)):
        await queue.enqueue_and_wait("task", 1, drop_abandoned=True, wait=0.05)
    async with queue.worker():
        await until_counted(queue, cancelled=1)
    assert seen == []


async def test_without_it_a_job_outlives_its_caller(queue: Queue) -> None:
    seen = _record(queue)
    with pytest.raises(WaitTimeout):
        await queue.enqueue_and_wait("task", 1, wait=0.05)
    async with queue.worker():
        await until_counted(queue, completed=1)
    assert seen == [1]


async def test_a_job_that_has_started_runs_on_when_its_caller_goes(queue: Queue) -> None:
    gate = asyncio.Event()

    @queue.job(drop_abandoned=True)
    async def work() -> str:
        await gate.wait()
        return "done"

    async with queue.worker():
        call = asyncio.create_task(work.options(id="one").call())
        await until_state(queue, "one", "running")
        call.cancel()
        await asyncio.wait([call])
        await queue.close()  # nothing is on its way any more
        gate.set()
        assert (await until_state(queue, "one", "completed")).result == "done"


async def test_a_job_that_has_been_snoozed_has_started(queue: Queue) -> None:
    @queue.job(drop_abandoned=True)
    async def work() -> Snooze:
        return Snooze(600)

    async with queue.worker():
        call = asyncio.create_task(work.options(id="one", wait=None).call())
        await until_state(queue, "one", "scheduled")
    call.cancel()
    await asyncio.wait([call])
    await queue.close()
    assert await counted(queue) == {"scheduled": 1}


@pytest.mark.parametrize(("options", "state"), [({}, "cancelled"), ({"id": "one"}, "queued")])
async def test_a_caller_that_went_before_it_heard_that_its_job_is_stored(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, options: Any, state: str
) -> None:
    """A job of an id that somebody chose may be another caller's, and is left to expire."""
    enqueue, stored = queue.storage.enqueue, asyncio.Event()

    async def unanswered(queue: str, jobs: Any) -> Any:
        await enqueue(queue, jobs)
        stored.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(queue.storage, "enqueue", unanswered)
    call = asyncio.create_task(queue.enqueue_and_wait("task", drop_abandoned=True, **options))
    await stored.wait()
    call.cancel()
    await asyncio.wait([call])
    await queue.close()
    assert await counted(queue) == {state: 1}


async def test_another_callers_job_is_not_dropped(queue: Queue, make_queue: MakeQueue) -> None:
    await make_queue().enqueue("task", 1, id="one")
    await make_queue().enqueue("other", 1, unique=True)
    for name, options in (("task", {"id": "one"}), ("other", {"unique": True})):
        call: Any = queue.enqueue_and_wait(name, 1, drop_abandoned=True, wait=0.05, **options)
        with pytest.raises(WaitTimeout):
            await call
    await queue.close()
    assert await counted(queue) == {"queued": 2}


# -- another due time ------------------------------------------------------------------------------


async def test_a_scheduled_job_can_be_put_off_and_run_now(queue: Queue) -> None:
    seen = _record(queue)
    receipt = await queue.enqueue("task", 1, delay=600)
    before = (await info_of(queue, receipt.id)).due_at
    assert before is not None
    assert await queue.reschedule(receipt.id, timedelta(hours=2)) == "updated"
    after = (await info_of(queue, receipt.id)).due_at
    assert after is not None
    assert timedelta(minutes=109) < after - before < timedelta(minutes=112)
    at = datetime(2040, 1, 2, 3, 4, 5, 678000, UTC)
    assert await queue.reschedule(receipt.id, at) == "updated"
    assert (await info_of(queue, receipt.id)).due_at == at
    async with queue.worker():
        assert await queue.run_now(receipt.id) == "updated"
        assert await receipt.result(wait=5) == 1
        assert await queue.run_now(receipt.id) == "finished"
    assert seen == [1]
    await queue.enqueue("task", 1, id="waits")
    assert await queue.reschedule("waits", 5) == "queued"
    assert await queue.reschedule("nobody", 5) == "not_found"


@pytest.mark.parametrize(
    ("at", "error", "message"),
    [
        (datetime(2040, 1, 1), ValueError, "at must have a time zone"),
        (-1, ValueError, "at must be at least 0"),
        ("soon", TypeError, "at must be seconds"),
        (float("nan"), ValueError, "at must be finite"),
    ],
)
async def test_a_bad_moment_is_refused(
    queue: Queue, at: Any, error: type[Exception], message: str
) -> None:
    await queue.enqueue("task", delay=600, id="one")
    before = await queue.get("one")
    with pytest.raises(error, match=message):
        await queue.reschedule("one", at)
    assert await queue.get("one") == before


async def test_what_is_scheduled_is_listed_page_by_page(queue: Queue) -> None:
    specs = [JobSpec("task", n, JobOptions(delay=1000 + n % 7 * 60)) for n in range(510)]
    await queue.enqueue_many(specs)
    await queue.enqueue("task", "now")
    everything = await queue.scheduled(limit=1000)
    assert len(everything) == 510
    assert {info.state for info in everything} == {"scheduled"}
    due = [info.due_at for info in everything]
    assert due == sorted(due)  # type: ignore[type-var]
    pages: list[JobInfo] = []
    while page := await queue.scheduled(limit=150, after=pages[-1] if pages else None):
        pages += page
    assert [info.id for info in pages] == [info.id for info in everything]
    assert len(await queue.scheduled()) == 100
    with pytest.raises(ValueError, match="limit must be"):
        await queue.scheduled(limit=0)
    with pytest.raises(TypeError, match="after must be"):
        await queue.scheduled(after="one")  # type: ignore[arg-type]


async def test_priority_is_checked(queue: Queue) -> None:
    for wrong, error in (("urgent", ValueError), (1, TypeError), ("HIGH", ValueError)):
        with pytest.raises(error, match="priority must be"):
            await queue.enqueue("task", priority=wrong)  # type: ignore[arg-type]
        with pytest.raises(error, match="priority must be"):
            queue.job(priority=wrong)  # type: ignore[arg-type]
    assert await counted(queue) == {}
    seen = _record(queue)
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", 1, priority="high") == 1
    await wait_until(lambda: seen == [1])
