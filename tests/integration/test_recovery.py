"""What a dead worker leaves behind is recovered; what a living one does is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from jobqueue import Fixed, Job, JobFailed, Queue, Reaper, StorageUnavailable
from jobqueue.consumer.leases import LeaseKeeper
from jobqueue.ids import new_token
from jobqueue.options import QueueOptions
from jobqueue.storage.types import Claim, ClaimRequest
from tests.integration.asking import counted, info_of, until_counted, until_state
from tests.integration.crew import Crew
from tests.integration.ledger import Ledger
from tests.integration.programs import MakeQueue, call, work
from tests.support.backends import Backend
from tests.support.wait import wait_until

LEASE = 1.0
SLACK = 1.0
"""A dead worker's job is recovered within the lease and this many seconds."""

_needs_processes = pytest.mark.storages("sqlite", "redis")


async def _claim_and_die(queue: Queue, count: int = 1, lease: float = 0.3) -> None:
    """Do to the storage what a worker does that is killed right after a claim."""
    await queue.open()
    request = ClaimRequest(
        worker=new_token(), count=count, token=new_token(), lease_ms=round(lease * 1000)
    )
    claims = await queue.storage.claim(queue.name, request)
    assert len(claims) == count


# -- processes that are killed ---------------------------------------------------------------------


@_needs_processes
async def test_the_job_of_a_killed_worker_completes_elsewhere(
    crew: Crew, make_queue: MakeQueue, ledger: Ledger
) -> None:
    queue = make_queue(lease=LEASE)
    options = {"lease": LEASE}
    first = await crew.hire_process(work, str(ledger.path), options)
    receipt = await queue.enqueue("hang_at_first", id="one")
    await wait_until(lambda: ledger.read("run"))
    second = await crew.hire_process(work, str(ledger.path), options)
    first.kill()
    killed_at = time.monotonic()
    assert await receipt.result(10) == second.process.pid
    assert time.monotonic() - killed_at < LEASE + SLACK
    assert [(run.attempt, run.process) for run in ledger.read("run")] == [
        (1, first.process.pid),
        (2, second.process.pid),
    ]
    info = await info_of(queue, "one")
    assert (info.state, info.attempt) == ("completed", 2)


@_needs_processes
async def test_a_worker_that_is_killed_while_it_waits_leaves_the_queue_working(
    crew: Crew, make_queue: MakeQueue, ledger: Ledger
) -> None:
    queue = make_queue(lease=LEASE)
    members = [
        await crew.hire_process(work, str(ledger.path), {"lease": LEASE, "max_attempts": 2})
        for _ in range(2)
    ]
    members[0].kill()
    killed_at = time.monotonic()
    receipts = [await queue.enqueue("note", n, id=f"{n}") for n in range(20)]
    for n, receipt in enumerate(receipts):
        assert await receipt.result(10) == n
    # What was on its way to the dead one comes back when its lease is over, as it would have been.
    assert time.monotonic() - killed_at < LEASE + SLACK
    assert len(ledger.read("run")) == 20


@_needs_processes
@pytest.mark.timeout(60)
async def test_a_job_that_kills_its_worker_ends_failed(
    crew: Crew, make_queue: MakeQueue, ledger: Ledger
) -> None:
    lease = 0.5
    queue = make_queue(lease=lease, max_attempts=2)
    # The last one finds that there is no attempt left.
    members = [
        await crew.hire_process(work, str(ledger.path), {"lease": lease, "max_attempts": 2})
        for _ in range(3)
    ]
    receipt = await queue.enqueue("die", id="poison")
    with pytest.raises(JobFailed) as caught:
        await receipt.result(15)
    assert (caught.value.error.reason, caught.value.error.attempts) == ("worker_lost", 2)
    assert caught.value.error.type == "WorkerLost"
    runs = ledger.read("run")
    assert [run.attempt for run in runs] == [1, 2]
    assert len({run.process for run in runs}) == 2
    dead = [member for member in members if member.process.poll() is not None]
    assert len(dead) == 2
    assert await queue.enqueue_and_wait("note", "alive", wait=5) == "alive"


@pytest.mark.parametrize("handler", ["block_loop", "spin"])
async def test_a_handler_that_blocks_its_loop_for_three_leases_runs_once(
    crew: Crew, make_queue: MakeQueue, ledger: Ledger, handler: str
) -> None:
    lease = 0.6
    queue = make_queue(lease=lease)
    blocked = await crew.hire(work, str(ledger.path), {"lease": lease})
    receipt = await queue.enqueue(handler, 3 * lease, id="one")
    await wait_until(lambda: ledger.read("run"))
    other = await crew.hire(work, str(ledger.path), {"lease": lease})
    assert await receipt.result(10) == 1
    assert len(ledger.read("run")) == 1
    assert (await info_of(queue, "one")).attempt == 1
    for member in (blocked, other):
        member.go()
        await member.result()


@_needs_processes
async def test_a_producer_that_is_killed_while_it_waits_takes_nothing_with_it(
    crew: Crew, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    queue.handler("task")(lambda job: job.payload)
    producer = await crew.hire_process(call, "payload", "one", 30)
    producer.go()
    await until_counted(queue, queued=1)
    producer.kill()
    async with queue.worker():
        assert await queue.result("one", wait=5) == "payload"


# -- a worker that dies, on every storage ----------------------------------------------------------


async def test_a_claim_that_nobody_works_on_is_recovered(make_queue: MakeQueue) -> None:
    queue = make_queue(lease=0.3, retry=Fixed(30))
    events: list[tuple[str, int]] = []
    queue.handler("task")(lambda job: f"attempt {job.attempt}")
    for type in ("stalled", "retrying"):
        queue.on(type)(lambda event: events.append((str(event.type), event.attempt)))
    receipt = await queue.enqueue("task", id="one")
    await _claim_and_die(queue)
    died_at = time.monotonic()
    async with queue.worker():
        # A lost worker is no failure of the job: it does not wait for the backoff.
        assert await receipt.result(5) == "attempt 2"
    assert 0.25 < time.monotonic() - died_at < 0.3 + SLACK
    assert events == [("stalled", 1), ("retrying", 1)]


async def test_attempts_run_out(make_queue: MakeQueue) -> None:
    queue = make_queue(lease=0.3, max_attempts=2)
    runs: list[str] = []
    failed: list[Any] = []
    queue.handler("task")(lambda job: runs.append(job.id))
    queue.on("failed")(lambda event: failed.append(event.error.reason))
    receipt = await queue.enqueue("task", id="one")
    waiter = asyncio.create_task(receipt.result(10))
    await _claim_and_die(queue)
    async with Reaper(queue.storage, queue.name, registry=queue.registry, hooks=queue.hooks):
        info = await until_state(queue, "one", "queued")
        assert info.error is not None
        assert (info.attempt, info.error.reason) == (1, "worker_lost")
        await _claim_and_die(queue)
        with pytest.raises(JobFailed, match="WorkerLost") as caught:
            await waiter
        await wait_until(lambda: failed)
    assert (caught.value.error.reason, caught.value.error.attempts) == ("worker_lost", 2)
    assert (runs, failed) == ([], ["worker_lost"])


async def test_a_cancelled_job_of_a_dead_worker_ends_cancelled(make_queue: MakeQueue) -> None:
    queue = make_queue(lease=0.3)
    await queue.enqueue("task", id="one")
    await _claim_and_die(queue)
    assert await queue.cancel("one") == "running"
    async with Reaper(queue.storage, queue.name, options=QueueOptions(lease=0.3)):
        await until_state(queue, "one", "cancelled")


async def test_recovered_jobs_go_to_the_head_in_their_order(make_queue: MakeQueue) -> None:
    queue = make_queue(lease=0.3, concurrency=1)
    runs: list[str] = []
    queue.handler("task")(lambda job: runs.append(job.id))
    for id in "abcdef":
        await queue.enqueue("task", id=id)
    await _claim_and_die(queue, 3)
    async with Reaper(queue.storage, queue.name, options=QueueOptions(lease=0.3)):
        await until_counted(queue, queued=6)
    async with queue.worker():
        await until_counted(queue, completed=6)
    assert runs == list("abcdef")


async def test_ten_reapers_recover_each_job_once(make_queue: MakeQueue) -> None:
    queue = make_queue(lease=0.3)
    told: list[str] = []
    for n in range(60):
        await queue.enqueue("task", id=f"{n}")
    await _claim_and_die(queue, 60)
    reapers: list[Reaper] = []
    for _ in range(10):
        place = make_queue(lease=0.3)
        place.on("stalled")(lambda event: told.append(event.id))
        reapers.append(
            Reaper(place.storage, "q", options=QueueOptions(lease=0.3), hooks=place.hooks)
        )
    for reaper in reapers:
        await reaper.start()
    await until_counted(queue, queued=60)
    for reaper in reapers:
        await reaper.stop()
    assert sorted(told, key=int) == [f"{n}" for n in range(60)]
    assert {(await info_of(queue, f"{n}")).attempt for n in range(60)} == {1}


async def test_a_reaper_step_by_step(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await queue.enqueue("task", id="one")
    await _claim_and_die(queue, lease=0.1)
    async with Reaper(queue.storage, queue.name) as reaper:
        taken = 0

        async def recovered() -> bool:
            nonlocal taken
            taken += await reaper.run_once()
            return taken > 0 or (await info_of(queue, "one")).state == "queued"

        await wait_until(recovered)
        assert taken <= 1
    assert (await info_of(queue, "one")).attempt == 1


@pytest.mark.parametrize("verb", ["recover", "finish"])
async def test_what_a_reaper_took_over_waits_for_no_further_lease_when_an_answer_is_lost(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    queue = make_queue()
    await queue.enqueue("task", id="one")
    await _claim_and_die(queue, lease=0.05)
    answering = getattr(queue.storage, verb)
    lost: list[Any] = []

    async def unheard(*arguments: Any) -> Any:
        answer = await answering(*arguments)
        if answer and len(lost) < 3:
            lost.append(answer)
            raise StorageUnavailable("the answer was lost")
        return answer

    monkeypatch.setattr(queue.storage, verb, unheard)
    async with Reaper(queue.storage, queue.name, options=QueueOptions(lease=600)):
        await until_counted(queue, queued=1)
    assert lost == [lost[0]] * (3 if verb == "recover" else 1)


# -- a worker that lives ---------------------------------------------------------------------------


async def test_a_living_worker_keeps_its_jobs_for_many_leases(make_queue: MakeQueue) -> None:
    queue, other = make_queue(lease=0.5), make_queue(lease=0.5)
    runs: list[int] = []

    async def task(job: Job) -> int:
        runs.append(job.attempt)
        await asyncio.sleep(1.3)
        return job.attempt

    for each in (queue, other):
        each.handler("task")(task)
    async with queue.worker():
        receipt = await queue.enqueue("task")
        await wait_until(lambda: runs)
        async with other.worker():
            assert await receipt.result(10) == 1
    assert runs == [1]


async def test_a_handler_that_blocks_the_loop_keeps_its_job(make_queue: MakeQueue) -> None:
    queue = make_queue(lease=0.5)
    runs: list[int] = []

    @queue.handler("task")
    async def task(job: Job) -> int:
        runs.append(job.attempt)
        time.sleep(1.2)
        return job.attempt

    async with queue.worker():
        assert await queue.enqueue_and_wait("task", wait=10) == 1
        await asyncio.sleep(0.2)
    assert runs == [1]
    assert await counted(queue) == {"completed": 1}


async def test_an_outcome_that_cannot_be_stored_yet_keeps_its_lease(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, other = make_queue(lease=0.5), make_queue(lease=0.5)
    runs: list[int] = []
    finish, refused_until = queue.storage.finish, time.monotonic() + 1.5

    async def refused_for_a_while(*arguments: Any) -> list[bool]:
        if time.monotonic() < refused_until:
            raise StorageUnavailable("as in an outage, though heartbeats come through")
        return await finish(*arguments)

    async def task(job: Job) -> int:
        runs.append(job.attempt)
        return job.attempt

    monkeypatch.setattr(queue.storage, "finish", refused_for_a_while)
    for each in (queue, other):
        each.handler("task")(task)
    async with queue.worker():
        receipt = await queue.enqueue("task")
        await wait_until(lambda: runs)
        async with other.worker():
            assert await receipt.result(10) == 1
    assert runs == [1]


async def test_a_worker_whose_lease_was_lost_has_no_say_any_more(make_queue: MakeQueue) -> None:
    queue = make_queue(lease=0.5, grace=0)
    ends: list[str] = []
    started = asyncio.Event()

    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.attempt == 2:
            return "attempt 2"
        started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ends.append(f"attempt {job.attempt} cancelled")
        return "stale"

    receipt = await queue.enqueue("task", id="one")
    async with queue.worker():
        await started.wait()
        await _take_over(queue)
        assert await receipt.result(5) == "attempt 2"
        await wait_until(lambda: ends)
    assert ends == ["attempt 1 cancelled"]
    assert await queue.result("one") == "attempt 2"
    assert (await info_of(queue, "one")).attempt == 2


async def test_a_new_run_is_not_stopped_for_the_old_one(make_queue: MakeQueue) -> None:
    # Both are in the same worker, and the old one goes on: it must hear that its lease is lost
    # again and again without the new one being taken for it.
    queue = make_queue(lease=0.4)
    first = asyncio.Event()
    runs: list[int] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.attempt)
        first.set()
        ends_at = time.monotonic() + (1.2 if job.attempt == 1 else 0.9)
        while time.monotonic() < ends_at:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)
        return f"attempt {job.attempt}"

    receipt = await queue.enqueue("task", id="one")
    async with queue.worker():
        await first.wait()
        await _take_over(queue)
        assert await receipt.result(5) == "attempt 2"
    assert runs == [1, 2]
    assert (await info_of(queue, "one")).attempt == 2


async def test_a_result_that_comes_too_late_does_not_count(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody has told the first worker yet that its lease is lost when its handler returns. A sign
    # of life would: its first one may be late on a busy machine.
    monkeypatch.setattr(LeaseKeeper, "start", lambda self: None)
    queue, other = make_queue(lease=60, concurrency=1), make_queue(lease=60)
    first, second, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @queue.handler("task")
    async def too_slow(job: Job) -> str:
        first.set()
        await second.wait()
        asyncio.get_running_loop().call_later(0.2, over.set)
        return "stale"

    @other.handler("task")
    async def task(job: Job) -> str:
        second.set()
        await over.wait()
        return f"attempt {job.attempt}"

    receipt = await queue.enqueue("task", id="one")
    async with queue.worker():
        await first.wait()
        async with other.worker():
            await _take_over(queue)
            assert await receipt.result(5) == "attempt 2"
    assert await queue.result("one") == "attempt 2"
    assert await counted(queue) == {"completed": 1}


async def _take_over(queue: Queue) -> None:
    """Recover the running job by a clock by which its lease is over, as after its worker was
    frozen for a while."""
    ahead: Any = queue.storage.twin()
    ahead._clock = lambda: round(time.time() * 1000) + 120_000
    async with ahead:
        assert await Reaper(ahead, queue.name).run_once() == 1


# -- answers that are lost for longer than a lease -------------------------------------------------


async def test_a_claim_is_heard_again_after_its_jobs_were_taken_over(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = backend.handle()
    really_claim = storage.claim
    brought = 0
    is_away = True

    async def claim(queue: str, request: ClaimRequest) -> list[Claim]:
        nonlocal brought
        if not is_away or not brought:
            claims = await really_claim(queue, request)
            brought += len(claims)
            if not is_away or not claims:
                return claims
        raise StorageUnavailable("no answer")

    monkeypatch.setattr(storage, "claim", claim)
    monkeypatch.setattr("jobqueue.backoff._LONGEST", 0.1)
    async with Queue("q", storage, lease=2.0) as queue:
        queue.handler("task")(lambda job: job.attempt)
        async with queue.worker():
            receipt = await queue.enqueue("task")
            await until_state(queue, receipt.id, "running")
            await until_state(queue, receipt.id, "queued")  # the reaper gave it back
            is_away = False
            assert await receipt.result(1.5) == 2
